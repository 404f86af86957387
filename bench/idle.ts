import { setTimeout as sleep } from 'node:timers/promises';
import { holder, ok, postgres, Stack } from '../test/harness/stack.ts';
import { highWater } from './measure.ts';
import type { BenchOptions } from './stack.ts';

const WAIT_MS = 30_000;
const MOST_MIB = 100;
const PORT = '8080';
/** How often each page is asked for: a day of scrapes every half minute is a few hundred. */
const ROUNDS = 100;

/**
 * The resident memory of the daemon while it waits for the next run: half a minute after its start, without a port, and
 * with one after many visits and scrapes.
 */
export async function benchIdle({ image }: BenchOptions): Promise<string> {
  const rows = [
    `| without a port | ${await measure(image, false)} |`,
    `| with a port, after ${ROUNDS} visits and scrapes | ${await measure(image, true)} |`,
  ];
  return [
    '| idle agent, MiB | resident | not shared with files | highest | most | met |',
    '|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

async function measure(image: string, withPort: boolean): Promise<string> {
  const stack = await Stack.start({
    services: { db: postgres(17), web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: {} },
    image,
    ...(withPort ? { agent: { environment: { LIFEBOAT_HTTP_PORT: PORT } } } : {}),
  });
  try {
    const id = await stack.id('lifeboat');
    if (withPort) {
      await stack.backup();
      const address = await ok('docker', [
        ...['inspect', '--format', '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}', id],
      ]);
      const all = ['/', '/metrics', '/snapshots', '/retention', '/drills', '/api/status', '/healthz'];
      for (const at of Array<string[]>(ROUNDS).fill(all).flat()) {
        const { status } = await fetch(`http://${address.trim()}:${PORT}${at}`);
        if (status !== 200) throw new Error(`${at} answered ${status}`);
      }
    }
    await sleep(WAIT_MS);
    const pid = Number(await ok('docker', ['inspect', '--format', '{{.State.Pid}}', id]));
    const rss = highWater(pid, 'VmRSS');
    if (rss === 0) throw new Error('the agent is not on this machine, or has ended');
    const numbers = [rss, highWater(pid, 'RssAnon'), highWater(pid)].map((mib) => mib.toFixed(0));
    return [...numbers, MOST_MIB, rss <= MOST_MIB ? 'yes' : 'no'].join(' | ');
  } finally {
    await stack.destroy();
  }
}
