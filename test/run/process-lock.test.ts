import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { isLocked, takeLock } from '../../src/run/process-lock.ts';

const name = `test\0${process.pid}`;

test('a lock is held once, seen by others, and free again after its release', async () => {
  expect(await isLocked(name)).toBe(false);
  const lock = await takeLock(name);
  expect(await isLocked(name)).toBe(true);
  expect(await isLocked(`${name} other`)).toBe(false);
  await expect(takeLock(name)).rejects.toMatchObject({ code: 'LOCKED' });
  await lock.release();
  expect(await isLocked(name)).toBe(false);
  await (await takeLock(name)).release();
});

test('whoever holds it hears of those who ask for it, and not of those who only look', async () => {
  const lock = await takeLock(name);
  const before = lock.whenWanted?.() as AbortSignal;
  expect(await isLocked(name)).toBe(true);
  await expect(takeLock(name)).rejects.toMatchObject({ code: 'LOCKED' });
  expect(before.aborted).toBe(false);
  const asked = once(before, 'abort');
  await expect(takeLock(name, { ask: true })).rejects.toMatchObject({ code: 'LOCKED' });
  await asked;
  expect(before.reason).toMatchObject({ code: 'INTERRUPTED' });
  // What was asked for before it began is not its business.
  expect(lock.whenWanted?.().aborted).toBe(false);
  await lock.release();
});

test('a process that is killed leaves nothing locked', async () => {
  const script = `import { takeLock } from '${new URL('../../src/run/process-lock.ts', import.meta.url).href}';
    await takeLock(${JSON.stringify(name)}); console.log('held'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  await expect(takeLock(name)).rejects.toMatchObject({ code: 'LOCKED' });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await (await takeLock(name)).release();
});
