import { refused } from '../store/archive/import-errors.ts';

/** Facts found in the text of a dump. */
export interface DumpScan {
  /** roles that the text names in owners, grants and policies, and does not create; sorted */
  roles: string[];
  /** databases that the text connects to by itself (`pg_dump --create`, `pg_dumpall`); sorted */
  databases: string[];
  /** the text ends with the comment that pg_dump and pg_dumpall write last */
  complete: boolean;
}

/** An identifier has at most 63 bytes. This bound also keeps the search for a name linear, whatever the text is. */
const NAME = String.raw`("(?:[^"]|""){1,63}"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]{0,62})`;

/** A statement of pg_dump or pg_dumpall that names roles, on one line. */
interface RolePattern {
  /** the line starts with this */
  start: string;
  /** and contains this */
  contains?: string;
  /** finds names; never has `.*`, because two of them take time that grows with the square of the line */
  names: RegExp;
}

const ROLE_PATTERNS: readonly RolePattern[] = [
  { start: 'ALTER ', names: new RegExp(` OWNER TO ${NAME};$`) },
  {
    ...{ start: 'GRANT ', contains: ' ON ' },
    names: new RegExp(` TO ${NAME}(?: WITH GRANT OPTION)?(?: GRANTED BY ${NAME})?;$`),
  },
  { start: 'REVOKE ', contains: ' ON ', names: new RegExp(` FROM ${NAME};$`) },
  { start: 'ALTER DEFAULT PRIVILEGES FOR ROLE ', names: new RegExp(`^ALTER DEFAULT PRIVILEGES FOR ROLE ${NAME} `) },
  {
    start: 'ALTER DEFAULT PRIVILEGES FOR ROLE ',
    names: new RegExp(` (?:TO|FROM) ${NAME}(?: WITH GRANT OPTION)?;$`),
  },
  { start: 'CREATE SCHEMA ', names: new RegExp(` AUTHORIZATION ${NAME};$`) },
  { start: 'CREATE USER MAPPING FOR ', names: new RegExp(`^CREATE USER MAPPING FOR ${NAME} `) },
  { start: 'SET SESSION AUTHORIZATION ', names: /^SET SESSION AUTHORIZATION ('(?:[^']|''){1,63}');$/ },
];
const POLICY_ROLES = new RegExp(` TO (${NAME}(?:, ${NAME})*)(?: USING| WITH|;)`);
const EACH_NAME = new RegExp(NAME, 'g');
const CREATED = new RegExp(`^CREATE (?:ROLE|USER) ${NAME}[; ]`);
const CONNECT = new RegExp(`^\\\\connect (?:-reuse-previous=on )?(?:"dbname='((?:[^'\\\\]|\\\\.)+)'"|${NAME})`);
const COMPLETE = /^-- PostgreSQL database (?:cluster )?dump complete$/;
/** Names that are no roles to create: keywords, and roles that every server has. */
const PREDEFINED = /^(?:public|current_user|session_user|current_role|default|none|pg_.*)$/i;
/** Bytes kept of the start and of the end of a line. Everything of interest is there. */
const HEAD = 4096;
const TAIL = 1024;
/** The most roles, and the most databases, that a dump may name. */
const MAX_NAMES = 20_000;
const NEWLINE = 10;

/**
 * Reads the text of a dump as it passes, line by line. Memory, and the time for each byte, stay constant whatever the
 * text is: the scan skips the middle of long lines, and the rows of COPY. The text is untrusted. If the scan misses a
 * name, the load reports an error. If it finds one too many, the server has a role that nothing uses.
 */
export class DumpScanner {
  private readonly named = new Set<string>();
  private readonly created = new Set<string>();
  private readonly databases = new Set<string>();
  private readonly head = Buffer.alloc(HEAD);
  private tail: Buffer = Buffer.alloc(0);
  private length = 0;
  private isCopying = false;
  private isComplete = false;

  add(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      const end = chunk.indexOf(NEWLINE, at);
      this.keep(chunk.subarray(at, end === -1 ? chunk.length : end));
      if (end === -1) return;
      this.endLine();
      at = end + 1;
    }
  }

  /** @throws IMPORT_REFUSED if the dump names too many roles or databases */
  end(): DumpScan {
    this.endLine();
    for (const [names, what] of [
      ...([this.named, this.created] as const).map((names) => [names, 'roles'] as const),
      [this.databases, 'databases'] as const,
    ]) {
      if (names.size > MAX_NAMES) {
        throw refused(`the dump names more than ${MAX_NAMES} ${what}`, {
          hint: 'Nothing was stored. Load it into a server of your own, and back that up.',
        });
      }
    }
    const roles = [...this.named].filter((name) => !this.created.has(name) && !PREDEFINED.test(name)).sort();
    return { roles, databases: [...this.databases].sort(), complete: this.isComplete };
  }

  private keep(part: Buffer): void {
    const room = Math.max(0, HEAD - this.length);
    part.copy(this.head, HEAD - room, 0, room);
    this.length += part.length;
    // Of a row of COPY, only the length counts, and whether it is the end of the rows.
    if (part.length > room && !this.isCopying) {
      this.tail = Buffer.concat([this.tail, part.subarray(Math.max(room, part.length - TAIL))]).subarray(-TAIL);
    }
  }

  private endLine(): void {
    const length = this.length;
    const tail = this.tail;
    this.length = 0;
    if (this.isCopying) {
      const start = length <= 3 ? this.head.toString('latin1', 0, length) : '';
      this.isCopying = start !== '\\.' && start !== '\\.\r';
      return;
    }
    if (length === 0) return;
    const gap = length > HEAD + TAIL ? [Buffer.of(0)] : [];
    this.tail = Buffer.alloc(0);
    const line = Buffer.concat([this.head.subarray(0, Math.min(length, HEAD)), ...gap, tail]).toString('utf8');
    this.read(line.endsWith('\r') ? line.slice(0, -1) : line);
  }

  private read(line: string): void {
    if (line === '') return;
    if (line.startsWith('--')) {
      if (COMPLETE.test(line)) this.isComplete = true;
      return;
    }
    // Since 17.6, a dump ends with `\unrestrict` after that comment.
    if (!line.startsWith('\\unrestrict ')) this.isComplete = false;
    if (line.startsWith('COPY ') && line.endsWith(' FROM stdin;')) this.isCopying = true;
    else if (line.startsWith('\\connect ')) this.readConnect(line);
    else this.readRoles(line);
  }

  private readConnect(line: string): void {
    const match = CONNECT.exec(line);
    remember(this.databases, match?.[1]?.replaceAll(/\\(.)/g, '$1') ?? unquote(match?.[2]));
  }

  private readRoles(line: string): void {
    remember(this.created, unquote(CREATED.exec(line)?.[1]));
    for (const { start, contains = '', names } of ROLE_PATTERNS) {
      if (!line.startsWith(start) || !line.includes(contains)) continue;
      for (const name of names.exec(line)?.slice(1) ?? []) remember(this.named, unquote(name));
    }
    if (!line.startsWith('CREATE POLICY ')) return;
    for (const [name] of POLICY_ROLES.exec(line)?.[1]?.matchAll(EACH_NAME) ?? []) remember(this.named, unquote(name));
  }
}

/** Adds a name, up to one more than {@link MAX_NAMES}. */
function remember(names: Set<string>, name: string | undefined): void {
  if (name !== undefined && names.size <= MAX_NAMES) names.add(name);
}

function unquote(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  if (name.startsWith("'")) return name.slice(1, -1).replaceAll("''", "'");
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}
