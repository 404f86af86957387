import { StringDecoder } from 'node:string_decoder';

/** Facts found in the text of a dump. */
export interface DumpScan {
  /** roles that the text names in owners, grants and policies, and does not create; sorted */
  roles: string[];
  /** databases that the text connects to by itself (`pg_dump --create`, `pg_dumpall`); sorted */
  databases: string[];
  /** the text ends with the comment that pg_dump and pg_dumpall write last */
  complete: boolean;
}

const NAME = String.raw`("(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)`;

/** Statements of pg_dump and pg_dumpall that name a role, one to a line. */
const ROLE_PATTERNS = [
  new RegExp(`^ALTER .* OWNER TO ${NAME};$`),
  new RegExp(`^GRANT .* ON .* TO ${NAME}(?: WITH GRANT OPTION)?(?: GRANTED BY ${NAME})?;$`),
  new RegExp(`^REVOKE .* ON .* FROM ${NAME};$`),
  new RegExp(`^ALTER DEFAULT PRIVILEGES FOR ROLE ${NAME} .* (?:TO|FROM) ${NAME}(?: WITH GRANT OPTION)?;$`),
  new RegExp(`^CREATE POLICY .* TO ${NAME}(?:, ${NAME})*(?: USING| WITH|;)`),
  new RegExp(`^CREATE SCHEMA .*AUTHORIZATION ${NAME};$`),
  new RegExp(`^CREATE USER MAPPING FOR ${NAME} `),
  /^SET SESSION AUTHORIZATION ('(?:[^']|'')+');$/,
];
const CREATED = new RegExp(`^CREATE (?:ROLE|USER) ${NAME}[; ]`);
const CONNECT = new RegExp(`^\\\\connect (?:-reuse-previous=on )?(?:"dbname='((?:[^'\\\\]|\\\\.)+)'"|${NAME})`);
const COMPLETE = /^-- PostgreSQL database (?:cluster )?dump complete$/;
/** Names that are no roles to create: keywords, and roles that every server has. */
const PREDEFINED = /^(?:public|current_user|session_user|current_role|default|none|pg_.*)$/i;
/** A statement that names a role is shorter, and so is the comment at the end. Characters. */
const LINE_LIMIT = 4096;

/**
 * Reads the text of a dump as it passes, line by line and with constant memory. Rows of COPY are skipped. The text stays a
 * stranger's claim: a name that is missed leads to an error of the load, one too many to a role that nothing uses.
 */
export class DumpScanner {
  readonly #decoder = new StringDecoder('utf8');
  readonly #named = new Set<string>();
  readonly #created = new Set<string>();
  readonly #databases = new Set<string>();
  #line = '';
  #isCopying = false;
  #isComplete = false;

  add(chunk: Buffer): void {
    const lines = this.#decoder.write(chunk).split('\n');
    const rest = lines.pop() ?? '';
    for (const line of lines) {
      this.#read(this.#line + line);
      this.#line = '';
    }
    // A longer line is of no interest, so its middle may be left out.
    if (this.#line.length < LINE_LIMIT) this.#line += rest;
  }

  end(): DumpScan {
    this.#read(this.#line + this.#decoder.end());
    const roles = [...this.#named].filter((name) => !this.#created.has(name) && !PREDEFINED.test(name)).sort();
    return { roles, databases: [...this.#databases].sort(), complete: this.#isComplete };
  }

  #read(raw: string): void {
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (this.#isCopying) {
      this.#isCopying = line !== '\\.';
      return;
    }
    if (line === '') return;
    if (line.startsWith('--')) {
      if (COMPLETE.test(line)) this.#isComplete = true;
      return;
    }
    // Since 17.6, a dump ends with `\unrestrict` after that comment.
    if (!line.startsWith('\\unrestrict ')) this.#isComplete = false;
    if (/^COPY .* FROM stdin;$/.test(line)) this.#isCopying = true;
    else if (line.startsWith('\\connect ')) this.#readConnect(line);
    else this.#readRoles(line);
  }

  #readConnect(line: string): void {
    const match = CONNECT.exec(line);
    const name = match?.[1]?.replaceAll(/\\(.)/g, '$1') ?? unquote(match?.[2]);
    if (name !== undefined) this.#databases.add(name);
  }

  #readRoles(line: string): void {
    const created = unquote(CREATED.exec(line)?.[1]);
    if (created !== undefined) this.#created.add(created);
    for (const pattern of ROLE_PATTERNS) {
      for (const found of pattern.exec(line)?.slice(1) ?? []) {
        const name = unquote(found);
        if (name !== undefined) this.#named.add(name);
      }
    }
  }
}

function unquote(name: string | undefined): string | undefined {
  if (name === undefined) return undefined;
  if (name.startsWith("'")) return name.slice(1, -1).replaceAll("''", "'");
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}
