import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/**
 * Settings that every server knows and every role may set. A timeout that was set with ALTER DATABASE or ALTER ROLE
 * would end a long dump, or even the first statement of a session; a database that is read-only by default could not be
 * restored. `pg_dumpall` writes the dates of VALID UNTIL in the style of the session: only ISO has the same meaning on
 * each server.
 */
const EVERYWHERE: Readonly<Record<string, string>> = {
  default_transaction_read_only: 'off',
  statement_timeout: '0',
  lock_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  DateStyle: 'ISO',
};

/** A setting that some servers do not know, or that a role may not set. */
interface Optional {
  name: string;
  value: string;
  /** the first version that knows it */
  since: number;
}

/** The newest first, so that a server refuses as few sessions as possible. */
const OPTIONAL: readonly Optional[] = [
  { name: 'transaction_timeout', value: '0', since: 17 },
  // Login triggers too (Postgres docs, event_triggers). For superusers and roles with GRANT SET ON PARAMETER.
  { name: 'event_triggers', value: 'off', since: 17 },
  { name: 'idle_session_timeout', value: '0', since: 14 },
];

/**
 * `ALTER DATABASE … SET role` would take the rights of a superuser away, for example the right to read all tables. It
 * must not count over a role that the administrator of the server chose for Lifeboat: see {@link CHOOSES_ROLE}.
 */
const OWN_ROLE = '-c role=none';

/**
 * True if `ALTER ROLE … SET role` sets a role for the sessions of a role that is not a superuser (Postgres docs,
 * pg_db_role_setting).
 */
const CHOOSES_ROLE = `SELECT EXISTS (SELECT FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
  WHERE r.rolname = session_user AND NOT r.rolsuper AND c LIKE 'role=%') AS chosen`;

/** SQLSTATE undefined_object: the server does not know the setting. */
const UNKNOWN = '42704';

/**
 * The settings that our sessions, and those of Postgres' tools, start with. They are part of the connection request
 * (PGOPTIONS in libpq): they count over those of the database and the role, and hold from the first statement, before a
 * login trigger fires. A server that refuses one of the optional settings is not sent it again.
 */
export class SessionStart {
  private optional = OPTIONAL;
  private isKnown = false;
  private chooses: boolean | undefined;

  /** Opens a session, with the options to start it with. Throws what `connect` throws. */
  async open(connect: (options: string) => Promise<Session>): Promise<Session> {
    for (;;) {
      try {
        const session = await connect(this.with(this.optional));
        this.isKnown = true;
        return session;
      } catch (error) {
        const refused = this.optional.find(({ name }) => isAbout(error, name));
        if (!refused) throw error;
        const isUnknown = sqlState(error) === UNKNOWN;
        this.optional = this.optional.filter((one) => one !== refused && !(isUnknown && one.since >= refused.since));
      }
    }
  }

  /** The options that the sessions of the tools start with. Optional ones only once the server has accepted them. */
  get options(): string {
    return this.with(this.isKnown ? this.optional : []);
  }

  /**
   * Finds out in the first proved session whether the administrator chose a role for the sessions of Lifeboat's role.
   * If so, all later sessions have that role.
   *
   * @returns true if the given session lacks that role: open another one
   */
  async lacksChosenRole(session: Session): Promise<boolean> {
    if (this.chooses !== undefined) return false;
    this.chooses = (await session.one<{ chosen: boolean }>(CHOOSES_ROLE)).chosen;
    return this.chooses;
  }

  private with(optional: readonly Optional[]): string {
    const settings = [...Object.entries(EVERYWHERE), ...optional.map(({ name, value }) => [name, value])];
    const options = settings.map(([name, value]) => `-c ${name}=${value}`);
    return [...options, ...(this.chooses ? [] : [OWN_ROLE])].join(' ');
  }
}

/** The server's messages may be in any language, and name the setting in each. */
function isAbout(error: unknown, name: string): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (e.message.includes(name)) return true;
  return false;
}
