import path from 'node:path';
import {
  API,
  type Checker,
  SymbolFlags,
  type Symbol as TsSymbol,
  type Type,
  TypeFlags,
} from 'typescript/unstable/sync';

/**
 * JSON Schemas from the types of TypeScript, with their comments as descriptions. A type with a name of its own becomes
 * a definition, and everything that TypeScript computes, such as `Pick`, becomes the object that it stands for. Objects
 * may gain members in later versions, so unknown ones are allowed.
 */

export interface Schema {
  [keyword: string]: unknown;
}

const ROOT = path.join(import.meta.dirname, '../..');

/** Types whose values later versions extend: a schema that lists them would refuse the output of these versions. */
const OPEN = [
  {
    file: 'src/base/errors.ts',
    name: 'ErrorCode',
    schema: { type: 'string', description: 'a code of docs/errors.md' },
  },
];

const KEYWORDS = [
  [TypeFlags.String | TypeFlags.TemplateLiteral, 'string'],
  [TypeFlags.Number, 'number'],
  [TypeFlags.Null, 'null'],
  [TypeFlags.NonPrimitive, 'object'],
] as const;

/**
 * Returns the schema of each member of an interface, by its name.
 *
 * @param file relative to the root of the project
 */
export function schemasOf(file: string, name: string): Map<string, Schema> {
  const api = new API({ cwd: ROOT });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [path.join(ROOT, 'tsconfig.json')] });
    const project = snapshot.getProject(path.join(ROOT, 'tsconfig.json'));
    if (!project) throw new Error('the project has no tsconfig.json');
    const { checker, program } = project;
    const exported = (of: string, wanted: string) => {
      const source = program.getSourceFile(path.join(ROOT, of));
      const found =
        source &&
        checker
          .getSymbolAtLocation(source)
          ?.getExports()
          .get(wanted as never);
      if (!found) throw new Error(`${of} exports no ${wanted}`);
      return checker.getDeclaredTypeOfSymbol(found);
    };
    const open = new Map(OPEN.map((one) => [exported(one.file, one.name).id, one.schema]));
    return new Map(
      checker.getPropertiesOfType(exported(file, name)).map((member) => {
        const writer = new Writer(checker, open);
        const schema = writer.member(member);
        return [member.name, { ...schema, ...writer.definitions() }];
      }),
    );
  } finally {
    api.close();
  }
}

/** Writes one schema, and collects the definitions that it needs. */
class Writer {
  private readonly checker: Checker;
  private readonly defined = new Map<string, Schema>();
  /** names of the types that are being written, because a type may contain itself */
  private readonly owners = new Map<string, number>();

  private readonly open: ReadonlyMap<number, Schema>;

  constructor(checker: Checker, open: ReadonlyMap<number, Schema>) {
    this.checker = checker;
    this.open = open;
  }

  definitions(): Schema {
    const sorted = [...this.defined].sort(([a], [b]) => (a < b ? -1 : 1));
    return sorted.length === 0 ? {} : { $defs: Object.fromEntries(sorted) };
  }

  /** Returns the schema of a member's value, with the comment of the member. */
  member(symbol: TsSymbol): Schema {
    const type = this.checker.getTypeOfSymbol(symbol);
    if (!type) throw new Error(`${symbol.name} has no type`);
    return { ...this.type(type), ...this.described(symbol) };
  }

  private described(symbol: TsSymbol | undefined): Schema {
    const text = symbol?.getDocumentationComment(this.checker) ?? '';
    const plain = text
      .replace(/\{@link ([^}]*)\}/g, '$1')
      .replace(/\s+/g, ' ')
      .trim();
    return plain === '' ? {} : { description: plain };
  }

  private type(type: Type): Schema {
    const open = this.open.get(type.id);
    if (open) return open;
    const named = this.nameOf(type);
    if (!named) return this.inline(type);
    const { name } = named;
    const owner = this.owners.get(name) ?? type.id;
    if (owner !== type.id) throw new Error(`two types have the name ${name}`);
    if (!this.owners.has(name)) {
      this.owners.set(name, type.id);
      this.defined.set(name, { ...this.inline(type), ...this.described(named) });
    }
    return { $ref: `#/$defs/${name}` };
  }

  /** Returns the name that the project gives to a type, if it is one that a reader may want to know. */
  private nameOf(type: Type): TsSymbol | undefined {
    const alias = type.getAliasSymbol();
    const own = type.isObjectType() && type.isClassOrInterface() ? type.getSymbol() : undefined;
    const named = alias && type.getAliasTypeArguments().length === 0 ? alias : own;
    const isOurs = named?.declarations.some(({ path: of }) => of.includes('/src/') && !of.includes('/node_modules/'));
    return isOurs ? named : undefined;
  }

  private inline(type: Type): Schema {
    const { flags } = type;
    if (type.isUnionType()) return this.union(type.getTypes() ?? []);
    if (type.isLiteralType()) return { const: type.value };
    if (flags & (TypeFlags.Unknown | TypeFlags.Any)) return {};
    if (flags & TypeFlags.Boolean) return { type: 'boolean' };
    const keyword = KEYWORDS.find(([flag]) => flags & flag)?.[1];
    if (keyword) return { type: keyword };
    if (type.isTupleType() || (type.isTypeReference() && this.checker.isArrayLikeType(type))) return this.list(type);
    if (flags & (TypeFlags.Object | TypeFlags.Intersection)) return this.object(type);
    throw new Error(`no schema for ${this.checker.typeToString(type)}`);
  }

  private union(all: readonly Type[]): Schema {
    const parts = all.filter(({ flags }) => !(flags & TypeFlags.Undefined));
    const values = parts.flatMap((one) => (one.isLiteralType() && !this.nameOf(one) ? [one.value] : []));
    const isBoolean = values.includes(true) && values.includes(false);
    const literals = values.filter((value) => !isBoolean || typeof value !== 'boolean');
    const schemas = [
      ...(literals.length === 1 ? [{ const: literals[0] }] : literals.length > 1 ? [{ enum: literals }] : []),
      ...(isBoolean ? [{ type: 'boolean' }] : []),
      ...parts.filter((one) => !one.isLiteralType()).map((one) => this.type(one)),
    ];
    return schemas.length === 1 ? (schemas[0] as Schema) : { anyOf: schemas };
  }

  private list(type: Type): Schema {
    const items = type.isTypeReference() ? this.checker.getTypeArguments(type) : [];
    if (!type.isTupleType() && items.length === 1) return { type: 'array', items: this.type(items[0] as Type) };
    throw new Error(`no schema for the list ${this.checker.typeToString(type)}`);
  }

  private object(type: Type): Schema {
    const members = this.checker.getPropertiesOfType(type);
    const [index] = this.checker.getIndexInfosOfType(type);
    const required = members.filter(({ flags }) => !(flags & SymbolFlags.Optional)).filter((one) => !this.mayLack(one));
    return {
      type: 'object',
      ...(members.length === 0 && index
        ? {}
        : { properties: Object.fromEntries(members.map((one) => [one.name, this.member(one)])) }),
      ...(required.length === 0 ? {} : { required: required.map(({ name }) => name) }),
      ...(index ? { additionalProperties: this.type(index.valueType) } : {}),
    };
  }

  /** Returns true for a member whose value may be undefined: JSON leaves it out. */
  private mayLack(member: TsSymbol): boolean {
    const type = this.checker.getTypeOfSymbol(member);
    if (!type?.isUnionType()) return false;
    return (type.getTypes() ?? []).some(({ flags }) => flags & TypeFlags.Undefined);
  }
}
