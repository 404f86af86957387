import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SourceWindows } from '../src/overview/windows.ts';
import { ok, postgres, Stack, type StackOptions, sh, until } from '../test/harness/stack.ts';
import { type Budget, highWater, Results, report, shell } from './measure.ts';
import { type BenchOptions, clearRepository, expectOk } from './stack.ts';

const WITHOUT = 'pgbench, without Lifeboat';
const WITH = 'pgbench, while Lifeboat receives the WAL';
const BASE = 'base backup';
const AGAIN = 'base backup, nothing changed';
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

/** pgbench reports how many transactions fit into a second; the tables show the time for this many. */
const TRANSACTIONS = 100_000;
/** The time between two runs of pgbench, milliseconds: background work of the first one ends meanwhile. */
const REST_MS = 2000;

/**
 * The cost of point-in-time recovery for the server, and its speed against the bare tools. Servers write to the disk as
 * they do by default. Helpers keep the low processor weight that they have for users: it is a part of what is measured.
 */
export async function benchPitr({ rounds, small, image }: BenchOptions): Promise<string> {
  const server = { shm_size: '256m', command: ['postgres'] };
  const options: StackOptions = {
    services: {
      db: postgres(17, { ...server, labels: { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' } }),
      plain: postgres(17, { ...server, labels: {} }),
    },
    env: { LIFEBOAT_BASE_SCHEDULE: '0 0 1 1 *' },
    receiver: false,
    image,
  };
  // Without a daemon at first: its receiver would make a base backup by itself.
  const still = { entrypoint: ['sleep'], command: ['infinity'], init: true, healthcheck: { test: ['CMD', 'true'] } };
  const stack = await Stack.start({ ...options, agent: still });
  try {
    const bench = new PitrBench(stack, small);
    await bench.fill();
    for (let round = 1; round <= rounds; round++) await bench.base(round, rounds);
    const again = bench.grownBytes;
    await stack.write(options);
    await bench.begin();
    for (let round = 1; round <= rounds; round++) await bench.write(round, rounds);
    const { written, share } = await bench.stored();
    await bench.replay();
    const memory = await bench.agentMiB();
    const more = [
      `| WAL stored ÷ WAL written | ${share.toFixed(2)} | ${MOST_STORED} | ${share <= MOST_STORED ? 'yes' : 'no'} |`,
      `| memory of the daemon | ${memory.toFixed(0)} MiB | ${MOST_MIB} MiB | ${memory <= MOST_MIB ? 'yes' : 'no'} |`,
    ];
    const mib = (bytes: number) => `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
    const facts = `Times of pgbench are for ${TRANSACTIONS} transactions. The second base backup stored ${mib(again)}. WAL: ${mib(written)}.`;
    return `${facts}\n\n${report(bench.results, BUDGETS)}\n${more.join('\n')}`;
  } finally {
    await stack.destroy();
  }
}

class PitrBench {
  readonly results = new Results();
  private readonly stack: Stack;
  private readonly scale: number;
  private readonly seconds: number;
  private from = '';
  /** the bytes that the last base backup without changes has stored */
  grownBytes = 0;

  constructor(stack: Stack, small: boolean) {
    this.stack = stack;
    this.scale = small ? 10 : 100;
    this.seconds = small ? 5 : 20;
  }

  async fill(): Promise<void> {
    process.stderr.write(`making databases of scale ${this.scale}\n`);
    for (const service of ['db', 'plain'])
      await this.stack.exec(service, ['pgbench', '-i', '-q', '-s', String(this.scale), '-U', 'postgres', 'postgres']);
  }

  /** Makes a first base backup and one without changes, and one with the bare program, in turns. */
  async base(round: number, rounds: number): Promise<void> {
    const { stack, results } = this;
    process.stderr.write(`base backups, round ${round} of ${rounds}\n`);
    await stack.psql('CHECKPOINT');
    const ours = async () => {
      await clearRepository(stack);
      await results.run(BASE, () => expectOk(stack.lifeboat('backup', 'db.postgres.base')));
      const before = await this.repositoryBytes();
      await results.run(AGAIN, () => expectOk(stack.lifeboat('backup', 'db.postgres.base')));
      this.grownBytes = (await this.repositoryBytes()) - before;
    };
    const bare = async () => {
      await shell(`rm -rf ${stack.directory}/bare`);
      await results.run(BARE, () => this.bareBackup());
    };
    for (const contender of round % 2 === 1 ? [bare, ours] : [ours, bare]) await contender();
  }

  private async bareBackup(): Promise<void> {
    const { stack } = this;
    await shell(
      `docker run --rm --network container:${await stack.id('db')} --volume ${stack.directory}:/rival ` +
        '--entrypoint pg_basebackup postgres:17 -h 127.0.0.1 -U postgres -D /rival/bare -Ft --compress=client-zstd ' +
        '-X none --checkpoint=fast',
    );
  }

  /** Starts the daemon, and waits until it receives. Makes the bare base backup for a replay by hand. */
  async begin(): Promise<void> {
    const { stack } = this;
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    await until('the first window is open', async () => (await this.windows()).windows.length > 0, 1_800_000, 1000);
    await shell(`rm -rf ${stack.directory}/bare`);
    await this.bareBackup();
    this.from = await stack.psql('SELECT pg_current_wal_lsn()');
  }

  /** Writes as fast as the server can, on a server with Lifeboat and on one without, in turns. */
  async write(round: number, rounds: number): Promise<void> {
    const { stack, results } = this;
    process.stderr.write(`pgbench, round ${round} of ${rounds}\n`);
    const contenders = [
      [WITHOUT, 'plain'],
      [WITH, 'db'],
    ] as const;
    // In turns, because the second one may find warmer caches.
    for (const [name, service] of round % 2 === 1 ? contenders : contenders.toReversed()) {
      // Each run begins with the same state: full pages follow the first change after a checkpoint.
      await stack.psql('CHECKPOINT', { service });
      await this.untilStored();
      await sleep(REST_MS);
      const options = ['-n', '-c', '4', '-j', '2', '-T', String(this.seconds)];
      const said = await stack.exec(service, ['pgbench', ...options, '-U', 'postgres', 'postgres']);
      const perSecond = Number(/^tps = ([\d.]+)/m.exec(said)?.[1]);
      if (!(perSecond > 0)) throw new Error(`pgbench says: ${said}`);
      results.add(name, { seconds: TRANSACTIONS / perSecond });
    }
  }

  /** Returns the bytes of WAL that the server has written, and the share of them that is stored. */
  async stored(): Promise<{ written: number; share: number }> {
    const { stack } = this;
    // The rest of the last segment is empty, and nobody has written it.
    const lsn = await stack.psql('SELECT pg_switch_wal()');
    await this.untilStored();
    const first = await stack.psql(`SELECT pg_walfile_name('${this.from}')`);
    const objects = (await stack.objects()).filter((name) => /\/wal\/.*\/\d{8}\//.test(name));
    const ours = objects.filter((name) => (name.split('/').at(-1) ?? '') >= first);
    const sizes = await Promise.all(ours.map((name) => stat(path.join(stack.directory, 'backups', name))));
    const written = Number(await stack.psql(`SELECT '${lsn}'::pg_lsn - '${this.from}'::pg_lsn`));
    return { written, share: sizes.reduce((sum, { size }) => sum + size, 0) / written };
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
    this.results.add(REPLAY, { seconds: (done - begun) / 1000 });
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

  private async untilStored(): Promise<void> {
    const { stack } = this;
    const lsn = await stack.psql('SELECT pg_current_wal_flush_lsn()');
    const isStored = async () => {
      const stored = (await this.windows()).receiver?.stored;
      return stored !== undefined && (await stack.psql(`SELECT '${stored}'::pg_lsn >= '${lsn}'::pg_lsn`)) === 't';
    };
    await until('the WAL is stored', isStored, 600_000, 1000);
  }

  private async repositoryBytes(): Promise<number> {
    const { stack } = this;
    const sizes = await Promise.all(
      (await stack.objects()).map((name) => stat(path.join(stack.directory, 'backups', name))),
    );
    return sizes.reduce((sum, { size }) => sum + size, 0);
  }

  private async windows(): Promise<SourceWindows> {
    const { sources } = await this.stack.json<{ sources: SourceWindows[] }>('windows', 'db.postgres');
    return sources[0] as SourceWindows;
  }
}
