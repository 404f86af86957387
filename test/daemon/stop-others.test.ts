import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { stopOthers } from '../../src/daemon/stop-others.ts';

test('a command that does not end delays the stop for some seconds, and without limit during a run', async () => {
  const child = spawn(process.execPath, [
    '-e',
    "process.on('SIGTERM', () => undefined); setInterval(() => undefined, 60_000); process.stdout.write('.')",
  ]);
  await once(child.stdout, 'data');
  const said: unknown[] = [];
  const log = { ...silentLog, warn: (message: string, fields?: object) => void said.push({ message, ...fields }) };
  let [busy, isOver] = [true, false];
  const others = async () => [child.pid as number];
  const stopped = stopOthers({ log, others, isBusy: async () => busy, idleWaitMs: 150 }).then(() => {
    isOver = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(isOver).toBe(false);
  busy = false;
  await stopped;
  expect(said).toEqual([{ message: expect.stringContaining('do not end'), pids: [child.pid] }]);
  child.kill('SIGKILL');
});
