import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { isLocked, takeLock } from '../../src/run/process-lock.ts';

const name = `test\0${process.pid}`;

test('a lock has one holder, is visible to others, and free again after its release', async () => {
  expect(await isLocked(name)).toBe(false);
  const lock = await takeLock(name);
  expect(await isLocked(name)).toBe(true);
  expect(await isLocked(`${name} other`)).toBe(false);
  const refused = await takeLock(name).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: 'LOCKED' });
  // The name of the socket begins with a NUL, which a terminal shows as garbage.
  expect((refused as Error).cause).toBeUndefined();
  await lock.release();
  expect(await isLocked(name)).toBe(false);
  await (await takeLock(name)).release();
});

test('the holder learns of requests for the lock, and not of processes that only check it', async () => {
  const lock = await takeLock(name);
  const before = lock.whenWanted?.() as AbortSignal;
  expect(await isLocked(name)).toBe(true);
  await expect(takeLock(name)).rejects.toMatchObject({ code: 'LOCKED' });
  expect(before.aborted).toBe(false);
  const asked = once(before, 'abort');
  await expect(takeLock(name, { ask: true })).rejects.toMatchObject({ code: 'LOCKED' });
  await asked;
  expect(before.reason).toMatchObject({ code: 'INTERRUPTED' });
  // Earlier requests do not concern it.
  expect(lock.whenWanted?.().aborted).toBe(false);
  await lock.release();
});

test('a killed process leaves nothing locked', async () => {
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
