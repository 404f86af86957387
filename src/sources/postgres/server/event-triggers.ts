import type { Session } from './session.ts';

/** What switches event triggers off in a session, login triggers too (Postgres docs, event_triggers; from 17 on). */
const OFF = '-c event_triggers=off';

/**
 * Keeps the event triggers of a server from firing in our sessions and in those of its tools. A login trigger fires before a session
 * can set anything, so that this has to be in the start of the session. Only a superuser may set it, or who was granted it
 * (GRANT SET ON PARAMETER), and servers before 17 do not know it: one that refuses it is asked without from then on.
 */
export class EventTriggers {
  #state: 'unknown' | 'off' | 'refused' = 'unknown';

  /** Opens a session, with the options to start it with. Throws what `connect` throws. */
  async open(connect: (options: string | undefined) => Promise<Session>): Promise<Session> {
    if (this.#state !== 'refused') {
      try {
        const session = await connect(OFF);
        this.#state = 'off';
        return session;
      } catch (error) {
        if (!isRefused(error)) throw error;
        this.#state = 'refused';
      }
    }
    return connect(undefined);
  }

  /** What the sessions of the tools start with: nothing while no session of ours has shown that the server takes it. */
  get options(): string {
    return this.#state === 'off' ? OFF : '';
  }
}

/** The server's texts may be in any language, and name the setting in each. */
function isRefused(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) if (e.message.includes('event_triggers')) return true;
  return false;
}
