import { expect, test } from 'vitest';
import { EventTriggers } from '../../../../src/sources/postgres/server/event-triggers.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

/** How sessions were started, on a server that says `refusal` to the setting. */
async function starts(refusal?: string): Promise<{ tried: (string | undefined)[]; options: string }> {
  const tried: (string | undefined)[] = [];
  const triggers = new EventTriggers();
  const connect = async (options: string | undefined) => {
    tried.push(options);
    if (refusal !== undefined && options !== undefined) throw new Error('no answer', { cause: new Error(refusal) });
    return {} as Session;
  };
  await triggers.open(connect);
  await triggers.open(connect);
  return { tried, options: triggers.options };
}

const OFF = '-c event_triggers=off';

test('sessions start with event triggers off, and the tools do too', async () => {
  expect(await starts()).toEqual({ tried: [OFF, OFF], options: OFF });
});

test('a server that does not know the setting, or a role that may not set it, is asked once', async () => {
  for (const refusal of [
    'unrecognized configuration parameter "event_triggers"',
    'keine Berechtigung, um Parameter »event_triggers« zu setzen',
  ]) {
    expect(await starts(refusal)).toEqual({ tried: [OFF, undefined, undefined], options: '' });
  }
});

test('any other refusal is the answer, and is tried again by the next session', async () => {
  await expect(starts('no pg_hba.conf entry')).rejects.toThrow('no answer');
});
