import { expect, test } from 'vitest';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';
import { SessionStart } from '../../../../src/sources/postgres/server/session-start.ts';

/** What a server says to a setting that it does not take, with its SQLSTATE. */
type Refusals = Readonly<Record<string, { code: string; message: string }>>;

const unknown = (name: string) => ({ code: '42704', message: `unrecognized configuration parameter "${name}"` });

/** How sessions were started on a server that refuses settings, without the settings that every server takes. */
async function starts(refusals: Refusals): Promise<{ tried: string[]; options: string }> {
  const tried: string[] = [];
  const start = new SessionStart();
  expect(optional(start.options)).toBe('');
  const connect = async (options: string) => {
    tried.push(optional(options));
    // In the order in which they are given, as the server does.
    for (const [, name = ''] of options.matchAll(/-c (\w+)=/g)) {
      const refusal = refusals[name];
      if (!refusal) continue;
      const cause = Object.assign(new Error(refusal.message), { code: refusal.code, severity: 'FATAL' });
      throw new Error('no answer', { cause });
    }
    return {} as Session;
  };
  await start.open(connect);
  await start.open(connect);
  return { tried, options: optional(start.options) };
}

const EVERYWHERE =
  '-c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c DateStyle=ISO';

const OWN_ROLE = ' -c role=none';

function optional(options: string): string {
  expect(options.startsWith(EVERYWHERE)).toBe(true);
  expect(options.endsWith(OWN_ROLE)).toBe(true);
  return options.slice(EVERYWHERE.length, -OWN_ROLE.length).trim();
}

const ALL = '-c transaction_timeout=0 -c event_triggers=off -c idle_session_timeout=0';

test('sessions start with every timeout and event triggers off, and the tools do too', async () => {
  expect(await starts({})).toEqual({ tried: [ALL, ALL], options: ALL });
});

test('a setting that the server does not know is sent once, with those of the same version and newer ones', async () => {
  const of16 = { transaction_timeout: unknown('transaction_timeout'), event_triggers: unknown('event_triggers') };
  const left = '-c idle_session_timeout=0';
  expect(await starts(of16)).toEqual({ tried: [ALL, left, left], options: left });
  const of13 = { ...of16, idle_session_timeout: unknown('idle_session_timeout') };
  expect(await starts(of13)).toEqual({ tried: [ALL, left, '', ''], options: '' });
});

test('a setting that the role may not set is left out alone, whatever the language of the server', async () => {
  const message = 'keine Berechtigung, um Parameter »event_triggers« zu setzen';
  const left = '-c transaction_timeout=0 -c idle_session_timeout=0';
  const ran = await starts({ event_triggers: { code: '42501', message } });
  expect(ran).toEqual({ tried: [ALL, left, left], options: left });
});

test('any other refusal is the answer', async () => {
  const refusal = { code: '28000', message: 'no pg_hba.conf entry' };
  await expect(starts({ statement_timeout: refusal })).rejects.toThrow('no answer');
});

test('a role that a database sets does not count, unlike one that the administrator set for the role of Lifeboat', async () => {
  for (const chosen of [false, true]) {
    const start = new SessionStart();
    const session = { one: async () => ({ chosen }) } as unknown as Session;
    await start.open(async () => session);
    expect(start.options.endsWith(OWN_ROLE)).toBe(true);
    expect(await start.lacksChosenRole(session)).toBe(chosen);
    expect(start.options.endsWith(OWN_ROLE)).toBe(!chosen);
    expect(await start.lacksChosenRole(session)).toBe(false);
  }
});
