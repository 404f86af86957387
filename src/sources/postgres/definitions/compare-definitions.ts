import type { Session } from '../server/session.ts';
import { type Definitions, type Digest, PRIME, readPlaces } from './definitions.ts';

const keyOf = ({ kind, schema }: Pick<Digest, 'kind' | 'schema'>) => JSON.stringify([kind, schema ?? null]);

/** Returns what was the same before and after a dump. The rest changed meanwhile, so the dump may have either. */
export function unchanged(before: Definitions, after: Definitions): Definitions {
  const changed = [...differing(before, after), ...reprinted(before, after)].map(({ kind, schema }) => ({
    ...{ kind, ...(schema === undefined ? {} : { schema }), why: 'changed' as const },
  }));
  const left = new Map([...before.left, ...after.left, ...changed].map((one) => [keyOf(one), one]));
  const digests = before.digests.filter((one) => !isLeft([...left.values()], one));
  return { ...before, digests, left: [...left.values()] };
}

/** A kind that is left without a schema is left in all of them. */
function isLeft(left: Definitions['left'], one: Pick<Digest, 'kind' | 'schema'>): boolean {
  return left.some(({ kind, schema }) => kind === one.kind && (schema === undefined || schema === one.schema));
}

interface Differing extends Pick<Digest, 'kind' | 'schema'> {
  recorded: Digest | undefined;
  found: Digest | undefined;
}

function differing(recorded: Definitions, found: Definitions): Differing[] {
  const then = new Map(recorded.digests.map((one) => [keyOf(one), one]));
  const now = new Map(found.digests.map((one) => [keyOf(one), one]));
  const left = [...recorded.left, ...found.left];
  return [...new Map([...then, ...now])].flatMap(([key, one]) => {
    if (isLeft(left, one) || then.get(key)?.sha256 === now.get(key)?.sha256) return [];
    const { kind, schema } = one;
    return [{ kind, ...(schema === undefined ? {} : { schema }), recorded: then.get(key), found: now.get(key) }];
  });
}

/** Returns what has the same definitions, printed with other parentheses or casts. */
function reprinted(recorded: Definitions, found: Definitions): Differing[] {
  const now = new Map(found.digests.map((one) => [keyOf(one), one]));
  const left = [...recorded.left, ...found.left];
  return recorded.digests.flatMap((then) => {
    const one = now.get(keyOf(then));
    if (one === undefined || isLeft(left, then) || one.sha256 !== then.sha256 || one.printed === then.printed)
      return [];
    const { kind, schema } = then;
    return [{ kind, ...(schema === undefined ? {} : { schema }), recorded: then, found: one }];
  });
}

/** The differences between a record and a database. */
interface DefinitionsCompared {
  /** of definitions, in words */
  definitions: string[];
  /** of owners and rights, in words */
  rights: string[];
  /** what could not be compared of each, in words */
  left: Record<'definitions' | 'rights', string[]>;
}

/** Compares the definitions of a restored database with the record. `session` is in a transaction of that database. */
export async function compareDefinitions(
  session: Session,
  recorded: Definitions,
  found: Definitions,
): Promise<DefinitionsCompared> {
  const left = [...recorded.left, ...found.left];
  const compared: DefinitionsCompared = {
    definitions: [],
    rights: [],
    left: {
      definitions: [
        ...leftTexts(left.filter((one) => !isRight(one))),
        ...reprinted(recorded, found).map(reprintedText),
      ],
      rights: leftTexts(left.filter(isRight)),
    },
  };
  for (const one of differing(recorded, found)) {
    const list = isRight(one) ? compared.rights : compared.definitions;
    list.push(`${describe(one)}${await nameOfDiffering(session, one)}`);
  }
  return compared;
}

/** Returns whether a kind is about owners and rights. */
export function isRight({ kind }: Pick<Digest, 'kind'>): boolean {
  return kind.startsWith('rights on ');
}

const placeText = ({ kind, schema }: Pick<Digest, 'kind' | 'schema'>) =>
  schema === undefined ? kind : `${kind} in schema ${schema}`;

/** Postgres itself prints some expressions in another form once they were dumped and restored. */
function reprintedText(one: Differing): string {
  const { objects } = one.recorded ?? { objects: 0 };
  return `${placeText(one)}: equal, but some of ${objects} are printed with other parentheses or casts`;
}

function describe(one: Differing): string {
  const [then, now] = [one.recorded?.objects ?? 0, one.found?.objects ?? 0];
  const of = placeText(one);
  return then === now ? `${of} differ from the record` : `${of}: ${now}, recorded ${then}`;
}

/** Names the object that differs, if it is a single one that the database has; else returns an empty text. */
async function nameOfDiffering(session: Session, { kind, schema, recorded, found }: Differing): Promise<string> {
  const place = singlePlace(recorded?.sums ?? NOTHING, found?.sums ?? NOTHING);
  if (place === undefined) return '';
  const places = await readPlaces(session, { kind, ...(schema === undefined ? {} : { schema }) });
  const named = places.find((one) => BigInt(one.place) % PRIME === place);
  return named === undefined ? '' : `: ${named.name}`;
}

const NOTHING: Digest['sums'] = { definitions: '0', places: '0' };

/** Returns the place of the object that differs, provided that it is the only one. */
function singlePlace(then: Digest['sums'], now: Digest['sums']): bigint | undefined {
  const change = (of: keyof Digest['sums']) => modulo(BigInt(`0x${now[of]}`) - BigInt(`0x${then[of]}`));
  const definitions = change('definitions');
  return definitions === 0n ? undefined : modulo(change('places') * inverse(definitions));
}

const modulo = (n: bigint) => ((n % PRIME) + PRIME) % PRIME;

/** Fermat: n^(p-2) is the inverse of n. */
function inverse(n: bigint): bigint {
  let [result, base] = [1n, modulo(n)];
  for (let e = PRIME - 2n; e > 0n; e >>= 1n) {
    if (e & 1n) result = modulo(result * base);
    base = modulo(base * base);
  }
  return result;
}

const WHY: Readonly<Record<Definitions['left'][number]['why'], string>> = {
  changed: 'changed while the snapshot was made',
  refused: 'the server did not show them, or not in time',
  undumped: 'not dumped, because the role of the backup is no superuser',
};

function leftTexts(left: Definitions['left']): string[] {
  const texts = left.map((one) => `${placeText(one)}: ${WHY[one.why]}`);
  return [...new Set(texts)];
}
