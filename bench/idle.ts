import { setTimeout as sleep } from 'node:timers/promises';
import { holder, ok, postgres, Stack } from '../test/harness/stack.ts';
import { highWater } from './measure.ts';
import type { BenchOptions } from './stack.ts';

const WAIT_MS = 30_000;
const MOST_MIB = 100;

/** What the daemon holds while it waits for the next run: resident memory half a minute after its start. */
export async function benchIdle({ image }: BenchOptions): Promise<string> {
  const stack = await Stack.start({
    services: { db: postgres(17), web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: {} },
    image,
  });
  try {
    await sleep(WAIT_MS);
    const pid = Number(await ok('docker', ['inspect', '--format', '{{.State.Pid}}', await stack.id('lifeboat')]));
    const rss = highWater(pid, 'VmRSS');
    if (rss === 0) throw new Error('the agent is not on this machine, or has ended');
    return [
      '| idle agent | MiB | most | met |',
      '|---|---|---|---|',
      `| resident | ${rss.toFixed(0)} | ${MOST_MIB} | ${rss <= MOST_MIB ? 'yes' : 'no'} |`,
      `| of it not shared with files | ${highWater(pid, 'RssAnon').toFixed(0)} | | |`,
      `| highest since its start | ${highWater(pid).toFixed(0)} | | |`,
    ].join('\n');
  } finally {
    await stack.destroy();
  }
}
