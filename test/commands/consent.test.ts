import { PassThrough } from 'node:stream';
import { describe, expect, test, vi } from 'vitest';
import type { Call } from '../../src/commands/call.ts';
import { consent } from '../../src/commands/consent.ts';

/** A call with `--yes` or without, at a terminal or not, where unattended restores are allowed or not. */
function callOf({ yes, terminal, allowed }: { yes: boolean; terminal: boolean; allowed: boolean }): Call {
  const stdin = Object.assign(new PassThrough(), { isTTY: terminal });
  return {
    app: { settings: { unattendedRestore: allowed } },
    io: { stdin, terminal: new PassThrough(), signal: new AbortController().signal },
    operands: [],
    options: yes ? { yes } : {},
    json: false,
  } as unknown as Call;
}

describe('a command that replaces data', () => {
  test('is refused without a terminal and --yes', async () => {
    const given = consent(callOf({ yes: false, terminal: false, allowed: true }));
    expect(given.canConfirm).toBe(false);
    await expect(given.confirm('db.postgres')).rejects.toMatchObject({
      code: 'NOT_CONFIRMED',
      hint: expect.stringContaining('--yes'),
    });
  });

  test('needs only --yes by default', async () => {
    const given = consent(callOf({ yes: true, terminal: false, allowed: true }));
    expect(given).toMatchObject({ canConfirm: true, unattended: true });
    await given.confirm('db.postgres');
  });

  test('is refused without a terminal, even with --yes, if LIFEBOAT_UNATTENDED_RESTORE is no', async () => {
    const given = consent(callOf({ yes: true, terminal: false, allowed: false }));
    expect(given.canConfirm).toBe(false);
    expect(given.unattended).toBeUndefined();
    await expect(given.confirm('db.postgres')).rejects.toMatchObject({
      code: 'NOT_CONFIRMED',
      message: expect.stringContaining('LIFEBOAT_UNATTENDED_RESTORE'),
      hint: expect.not.stringContaining('--yes'),
    });
  });

  test('needs only --yes at a terminal, also then', async () => {
    const given = consent(callOf({ yes: true, terminal: true, allowed: false }));
    expect(given.canConfirm).toBe(true);
    await given.confirm('db.postgres');
  });

  test('asks at a terminal without --yes', async () => {
    const call = callOf({ yes: false, terminal: true, allowed: false });
    const confirmed = consent(call).confirm('db.postgres');
    (call.io.stdin as unknown as PassThrough).write('db.postgres\n');
    await confirmed;
    const refused = consent(call).confirm('db.postgres');
    (call.io.stdin as unknown as PassThrough).write('web.media\n');
    await expect(refused).rejects.toMatchObject({ code: 'NOT_CONFIRMED' });
  });

  test.each([
    ['db.postgres', undefined],
    ['yes', 'NOT_CONFIRMED'],
  ])('asks once more after `yes`, and accepts only the name: %s', async (second, code) => {
    const call = callOf({ yes: false, terminal: true, allowed: true });
    const shown = vi.spyOn(call.io.terminal as unknown as PassThrough, 'write');
    const answered = consent(call).confirm('db.postgres');
    const outcome = answered.then(
      () => undefined,
      (error: { code: string }) => error.code,
    );
    const stdin = call.io.stdin as unknown as PassThrough;
    stdin.write('y\n');
    await vi.waitFor(() => expect(JSON.stringify(shown.mock.calls)).toContain('Type the name db.postgres itself'));
    stdin.write(`${second}\n`);
    expect(await outcome).toBe(code);
  });
});
