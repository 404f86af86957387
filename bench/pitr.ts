import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { SourceWindows } from '../src/overview/windows.ts';
import { ok, postgres, Stack, sh, until } from '../test/harness/stack.ts';
import { type Budget, highWater, Results, report, shell } from './measure.ts';
import { type BenchOptions, withoutPoliteness } from './stack.ts';

const WITHOUT = 'pgbench, without Lifeboat';
const WITH = 'pgbench, while Lifeboat receives the WAL';
const BASE = 'base backup';
const BARE = 'pg_basebackup -Ft --compress=client-zstd';
const REPLAY = 'replay of the WAL';
const COPIED = 'replay with cp as restore_command';

const BUDGETS: Budget[] = [
  { contender: WITH, rival: WITHOUT, most: 1.03 },
  { contender: BASE, rival: BARE, most: 1.3 },
  { contender: REPLAY, rival: COPIED, most: 1.2 },
];
const MOST_STORED = 0.4;
const MOST_MIB = 250;

/** The cost of point-in-time recovery for the server, and its speed against the bare tools. */
export async function benchPitr({ rounds, small, image }: BenchOptions): Promise<string> {
  const stack = await Stack.start({
    services: {
      db: postgres(17, { labels: { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' }, shm_size: '256m' }),
      plain: postgres(17, { labels: {}, shm_size: '256m' }),
    },
    env: { LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
    startAgent: false,
    receiver: false,
    image,
  });
  const stop = withoutPoliteness(stack);
  try {
    const bench = new PitrBench(stack, small);
    await bench.fill();
    await bench.bases();
    for (let round = 1; round <= rounds; round++) await bench.write(round, rounds);
    const stored = await bench.storedShare();
    await bench.replay();
    const memory = await bench.agentMiB();
    const more = [
      `| WAL stored ÷ WAL written | ${stored.toFixed(2)} | ${MOST_STORED} | ${stored <= MOST_STORED ? 'yes' : 'no'} |`,
      `| memory of the daemon | ${memory.toFixed(0)} MiB | ${MOST_MIB} MiB | ${memory <= MOST_MIB ? 'yes' : 'no'} |`,
    ];
    return `${report(bench.results, BUDGETS)}\n${more.join('\n')}`;
  } finally {
    stop();
    await stack.destroy();
  }
}

class PitrBench {
  readonly results = new Results();
  private readonly stack: Stack;
  private readonly scale: number;
  private readonly transactions: number;
  private from = '';

  constructor(stack: Stack, small: boolean) {
    this.stack = stack;
    this.scale = small ? 10 : 100;
    this.transactions = small ? 2000 : 50_000;
  }

  async fill(): Promise<void> {
    process.stderr.write(`making databases of scale ${this.scale}\n`);
    for (const service of ['db', 'plain'])
      await this.stack.exec(service, ['pgbench', '-i', '-q', '-s', String(this.scale), '-U', 'postgres', 'postgres']);
    this.from = await this.stack.psql('SELECT pg_current_wal_lsn()');
  }

  /** The daemon makes the first base backup when it starts: its manifest says how long that took. */
  async bases(): Promise<void> {
    const { stack } = this;
    const db = await stack.id('db');
    await this.results.run(BARE, () =>
      shell(
        `docker run --rm --network container:${db} --volume ${stack.directory}:/rival --entrypoint pg_basebackup ` +
          'postgres:17 -h 127.0.0.1 -U postgres -D /rival/bare -Ft --compress=client-zstd -X none --checkpoint=fast',
      ),
    );
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    await until('the first window is open', async () => (await this.windows()).windows.length > 0, 1_800_000, 1000);
    const { snapshots } = await stack.json<{ snapshots: { id: string; end: string }[] }>('snapshots');
    const [first] = snapshots;
    // An id begins with the time of the start: 20261120T030000Z.
    const start = first?.id.replace(/^(....)(..)(..)T(..)(..)(..)Z.*/, '$1-$2-$3T$4:$5:$6Z');
    if (!first || !start) throw new Error('there is no base backup');
    this.results.measured.set(BASE, [{ seconds: (Date.parse(first.end) - Date.parse(start)) / 1000 }]);
  }

  async write(round: number, rounds: number): Promise<void> {
    process.stderr.write(`round ${round} of ${rounds}\n`);
    const argv = ['pgbench', '-n', '-c', '4', '-j', '2', '-t', String(this.transactions), '-U', 'postgres', 'postgres'];
    const contenders = [
      [WITHOUT, 'plain'],
      [WITH, 'db'],
    ] as const;
    // In turns, because the second one may find warmer caches.
    for (const [name, service] of round % 2 === 1 ? contenders : contenders.toReversed())
      await this.results.run(name, () => this.stack.exec(service, argv));
  }

  /** Returns the stored bytes of WAL as a share of what the server has written. */
  async storedShare(): Promise<number> {
    const { stack } = this;
    // The rest of the last segment is empty, and nobody has written it.
    const lsn = await stack.psql('SELECT pg_switch_wal()');
    await until('the WAL is stored', async () => {
      const stored = (await this.windows()).receiver?.stored;
      return stored !== undefined && (await stack.psql(`SELECT '${stored}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    });
    const first = await stack.psql(`SELECT pg_walfile_name('${this.from}')`);
    const objects = (await stack.objects()).filter((name) => /\/wal\/.*\/\d{8}\//.test(name));
    const ours = objects.filter((name) => (name.split('/').at(-1) ?? '') >= first);
    const sizes = await Promise.all(ours.map((name) => stat(path.join(stack.directory, 'backups', name))));
    const written = Number(await stack.psql(`SELECT '${lsn}'::pg_lsn - '${this.from}'::pg_lsn`));
    return sizes.reduce((sum, { size }) => sum + size, 0) / written;
  }

  /** Both replay the WAL since their base backup. Only the time from the start of the replay on counts. */
  async replay(): Promise<void> {
    const { stack } = this;
    const volume = `${stack.project}_replayed`;
    const child = stack.spawn('restore', 'db.postgres', '--at', 'latest', '--to-volume', volume);
    let [begun, done] = [0, 0];
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (text.includes('replaying')) begun = performance.now();
      if (text.includes('checking the recovered')) done = performance.now();
    });
    child.stdout?.resume();
    const status = await new Promise((resolve) => child.once('close', resolve));
    await sh('docker', ['volume', 'rm', '--force', volume]);
    if (status !== 0 || begun === 0 || done === 0) throw new Error(`the restore ended with status ${status}`);
    this.results.measured.set(REPLAY, [{ seconds: (done - begun) / 1000 }]);
    await this.replayByHand();
  }

  private async replayByHand(): Promise<void> {
    const { directory, project } = this.stack;
    const page = await readFile(new URL('../docs/point-in-time.md', import.meta.url), 'utf8');
    await writeFile(path.join(directory, 'wal.sh'), /```sh\n(.*?)```/s.exec(page)?.[1] ?? '');
    await shell(`cd ${directory} && sh wal.sh backups ${project} db.postgres wal`);
    await shell(
      `cd ${directory} && mkdir data && tar -x --zstd -f bare/base.tar.zst -C data && touch data/recovery.signal`,
    );
    await shell(`cd ${directory} && chmod 700 data && chown -R 999 data wal`);
    const name = `${project}-by-hand`;
    const mounts = `-v ${directory}/data:/var/lib/postgresql/data -v ${directory}/wal:/wal`;
    await this.results
      .run(COPIED, async () => {
        await ok('bash', [
          '-c',
          `docker run -d --name ${name} ${mounts} postgres:17 -c 'restore_command=cp /wal/%f %p'`,
        ]);
        const sql = 'SELECT 1 WHERE NOT pg_is_in_recovery()';
        const isDone = () => sh('docker', ['exec', name, 'psql', '-U', 'postgres', '-XAtc', sql]);
        await until('the server is recovered', async () => (await isDone()).stdout.trim() === '1', 1_800_000, 100);
      })
      .finally(() => sh('docker', ['rm', '--force', '--volumes', name]));
    if ((await readdir(path.join(directory, 'wal'))).length === 0) throw new Error('no WAL was unpacked');
  }

  /** Returns the highest resident memory of the daemon since its start, MiB. */
  async agentMiB(): Promise<number> {
    const id = await this.stack.id('lifeboat');
    const pids = (await ok('docker', ['top', id, '-o', 'pid'])).trim().split('\n').slice(1);
    return Math.max(...pids.map((pid) => highWater(Number(pid))));
  }

  private async windows(): Promise<SourceWindows> {
    const { sources } = await this.stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres');
    return sources[0] as SourceWindows;
  }
}
