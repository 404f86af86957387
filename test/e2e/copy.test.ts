import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import type { RunReport } from '../../src/report/events.ts';
import { encodeManifest, type Manifest, manifestHash, manifestKey } from '../../src/store/objects/manifest.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { listsOf } from '../../src/store/repository/pack-lists.ts';
import { type S3Proxy, startS3Proxy } from '../harness/s3-proxy.ts';
import { S3_KEY, type S3Server, startS3Server } from '../harness/s3-server.ts';
import { holder, hostAddress, ok, Stack, type StackOptions, sh, until, whileRuns } from '../harness/stack.ts';
import { packsIn } from './repository-check.ts';

const DAY = 86_400_000;
const NIGHTS = 3;

const INTERRUPT_CHECK = `for p in /proc/[0-9]*; do
  if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js check'; then kill -INT "\${p#/proc/}"; fi
done 2>/dev/null; true`;

interface Listed {
  snapshots: { id: string; pinned?: string }[];
}

/** Backups on a disk of the host, with a copy on a real S3 server that is not always available. */
describe('a copy on an S3 server', () => {
  let server: S3Server;
  let proxy: S3Proxy;
  let bucket: string;
  let stack: Stack;
  let options: StackOptions;
  let backups: string;
  let location: string;
  let scratch: string;
  const image = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';
  const key = { AWS_ACCESS_KEY_ID: S3_KEY.accessKeyId, AWS_SECRET_ACCESS_KEY: S3_KEY.secretAccessKey };

  beforeAll(async () => {
    server = await startS3Server();
    proxy = await startS3Proxy({ server: server.endpoint, host: '0.0.0.0' });
    bucket = await server.bucket();
    location = `s3://${bucket}/base?endpoint=http://${await hostAddress()}:${proxy.port}`;
    scratch = await mkdtemp(path.join(tmpdir(), 'lifeboat-copy-'));
    const credentials = path.join(scratch, 'aws');
    const { accessKeyId, secretAccessKey } = S3_KEY;
    await writeFile(
      credentials,
      `[elsewhere]\naws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`,
    );
    options = {
      services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }) },
      volumes: { media: {} },
      secrets: { aws: { file: credentials } },
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *', LIFEBOAT_KEEP: '30d', AWS_SHARED_CREDENTIALS_FILE: '/run/secrets/aws' },
      agent: { secrets: ['aws'] },
    };
    stack = await Stack.start(options);
    backups = path.join(stack.directory, 'backups');
    for (let night = 0; night < NIGHTS; night++) {
      await change(300_000);
      expect((await stack.backup()).code).toBe(0);
    }
    await age();
    await stack.write({
      ...options,
      env: { ...options.env, LIFEBOAT_COPY: `${location}&profile=elsewhere&keep=last+2` },
    });
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    // The agent remembers the snapshots under their former names.
    await stack.json('accept', 'destination');
  });
  afterAll(async () => {
    await stack?.destroy();
    await proxy?.close();
    await server?.stop();
    await rm(scratch, { recursive: true, force: true });
  });

  /** Changes the times of the snapshots to the last nights, one a day. Objects stay unchanged. */
  async function age() {
    const destination = createLocalDestination({ root: backups });
    const { snapshots } = await (
      await openRepository(destination, { project: stack.project, create: false, keys: {} })
    ).snapshots();
    let previous: string | null = null;
    for (const [i, { manifest }] of snapshots.toReversed().entries()) {
      const time = new Date(Date.now() - (NIGHTS - i) * DAY).toISOString();
      const id = `${time.slice(0, 19).replaceAll(/[-:]/g, '')}Z-${manifest.id.slice(-6)}`;
      const bytes: Buffer = encodeManifest({ ...manifest, id, start: time, end: time, previous });
      const file = path.join(backups, manifestKey(stack.project, id));
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, bytes);
      await rm(path.join(backups, manifestKey(stack.project, manifest.id)));
      previous = manifestHash(bytes);
    }
  }

  const change = (bytes: number) =>
    stack.exec('web', ['sh', '-c', `rm -f /media/new*; head -c ${bytes} /dev/urandom > /media/new$$; ls /media`]);
  const sums = () => stack.exec('web', ['sh', '-c', 'cd /media && sha256sum * | sort']);
  const ids = async (...from: string[]) =>
    (await stack.json<Listed>('snapshots', ...from)).snapshots.map(({ id }) => id);
  const whole = async (...from: string[]) => {
    const { code, stdout } = await stack.lifeboat('check', '--read-data', ...from);
    return { code, found: stdout.match(/^!.*$/gm) ?? [] };
  };
  /** Returns all objects, except those that belong to only one location. */
  const objects = async () => {
    const keys = (await server.keys(bucket)).map((one) => one.slice('base/'.length));
    return keys.filter((one) => !/\/(leases|unreferenced|restores)\//.test(one)).sort();
  };

  /** Starts a backup whose copy has sent one part of an object and cannot send the next. */
  const backupThatHangs = async () => {
    await change(25_000_000);
    return hang('backup');
  };

  /** Starts `backup` or `copy`. The copy sends one part of a new object and cannot send the next. */
  const hang = async (command: string, env: Record<string, string> = {}) => {
    proxy.forget();
    proxy.script(({ operation, ofOperation }) => (operation === 'UploadPart' && ofOperation > 0 ? 'hang' : undefined));
    const child = stack.spawnWith(env, command);
    const ended = new Promise((resolve) => child.once('close', resolve));
    await whileRuns(
      ended,
      until('a part hangs', async () => proxy.faults > 0),
    );
    // In the middle of an object, so that the command waits for its end.
    return { ended };
  };

  /** One part of five was sent before. The copy has continued in the middle of the object. */
  const expectResumed = async () => {
    const count = (operation: string) => proxy.seen.filter((one) => one.operation === operation).length;
    expect([count('CreateMultipartUpload'), count('UploadPart')]).toEqual([0, 4]);
    expect(await server.uploads(bucket)).toEqual([]);
  };

  it('gets the snapshots that its own retention keeps; the rest stays only at the destination', async () => {
    const { code, report, stderr } = await stack.backup();
    expect(code, stderr + JSON.stringify(report, null, 1)).toBe(0);
    const name = `s3://${bucket}/base`;
    expect(report.copies).toMatchObject([{ name, status: 'ok', snapshots: 2, pruned: { snapshots: 0 } }]);
    const main = await ids();
    expect(main).toHaveLength(NIGHTS + 1);
    expect(await ids('--from', '1')).toEqual(main.slice(0, 2));
    expect(await whole('--from', name)).toEqual({ code: 0, found: [] });
    const pruned = await stack.json<{ decisions: unknown[]; copies: { destination: string; decisions: unknown[] }[] }>(
      'prune',
      '--dry-run',
    );
    expect(pruned.decisions).toHaveLength(NIGHTS + 1);
    expect(pruned.copies).toMatchObject([{ destination: name, decisions: { length: 2 } }]);
    expect((await stack.lifeboat('plan')).stdout).toContain(`, then ${name} (last 2)`);
  });

  it('that is unreachable makes the run partly failed, is reported, and catches up', async () => {
    proxy.script(() => 403);
    await change(400_000);
    const first = await stack.backup();
    expect({ code: first.code, status: first.report.status }).toEqual({ code: 3, status: 'partial' });
    expect(first.report.results).toMatchObject([{ status: 'ok' }]);
    expect(first.report.copies).toMatchObject([{ status: 'failed', error: { code: 'DEST_UNWRITABLE' } }]);
    const since = first.report.copies?.[0]?.behindSince;
    const manifest = await stack.json<{ end: string }>('show', 'latest');
    expect(since).toBe(manifest.end);
    proxy.script(() => 'reset');
    await change(400_000);
    const second = await stack.backup();
    expect(second.report.copies).toMatchObject([{ error: { code: 'DEST_UNREACHABLE' }, behindSince: since }]);
    const status = await stack.lifeboat('status');
    expect(status.code).toBe(3);
    expect(status.stdout).toMatch(/! copy s3:.* has been behind for .*DEST_UNREACHABLE.* · complete /);
    const told = JSON.stringify(stack.receiver?.requests);
    expect(told).toContain('1 copy is behind');
    expect(stack.receiver?.requests.some(({ path: at }) => at.includes('/fail'))).toBe(true);

    proxy.forget();
    expect((await stack.lifeboat('pin', 'latest', '--reason', 'before deploy')).code).toBe(0);
    const ran = await stack.lifeboat('copy');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(ran.stdout).toContain('is up to date · 2 snapshots');
    expect((await ids('--from', '1')).slice(0, 2)).toEqual((await ids()).slice(0, 2));
    const [newest] = (await stack.json<Listed>('snapshots', '--from', '1')).snapshots;
    expect(newest?.pinned).toBe('before deploy');
    expect(await whole('--from', '1')).toEqual({ code: 0, found: [] });
    expect((await stack.lifeboat('status')).stdout).toMatch(/copy s3:.* · complete (just now|\d+m ago)/);
  });

  it('that takes long stops for another command, and continues afterwards', async () => {
    const { ended } = await backupThatHangs();
    let isOver = false;
    void ended.then(() => {
      isOver = true;
    });
    // None of these commands changes anything, so none ends the copy.
    for (const command of ['status', 'plan', 'snapshots', 'prune --dry-run'])
      await stack.lifeboat(...command.split(' '));
    const dryRun = await stack.lifeboat('restore', 'latest', 'web.media', '--dry-run', '--json');
    expect({ code: dryRun.code, isOver }).toEqual({ code: 11, isOver: false });
    // On a slow machine, the first answer is LOCKED. Then the copy is left out, because it is behind.
    const prune = async () => (await stack.lifeboat('prune')).code;
    expect(await until('the prune gets its turn', async () => ((code) => code !== 11 && code)(await prune()))).toBe(3);
    expect(await ended).toBe(3);
    const { last } = await stack.json<{ last: RunReport }>('status');
    expect(last.copies).toMatchObject([{ status: 'failed', error: { code: 'INTERRUPTED' } }]);
    proxy.forget();
    const { stdout } = await stack.lifeboat('copy');
    expect(stdout).toContain('is up to date · 1 snapshot');
    await expectResumed();
  });

  it.each([
    // A backup also starts a helper and syncs a pack, which may take ten seconds on a busy disk.
    ['backup', 3, '30s'],
    ['copy', 1, '10s'],
  ])(
    'whose server stops responding in the middle of an object does not block `%s`, and catches up',
    async (command, status, stall) => {
      await change(25_000_000);
      if (command === 'copy') {
        proxy.script(() => 403);
        expect((await stack.backup()).code).toBe(3);
      }
      const { ended } = await hang(command, { LIFEBOAT_STALL_TIMEOUT: stall });
      // Now every request hangs, even the release of the lease. A single request may take many minutes.
      proxy.script(() => 'hang');
      let code: unknown;
      ended.then((is) => {
        code = is;
      });
      await until('the command ends', async () => code !== undefined, 240_000);
      expect(code).toBe(status);
      expect((await stack.lifeboat('status')).stdout).toMatch(/! copy s3:.* has been behind for .*DEST_UNREACHABLE/);
      // It does not block an interrupted command either.
      const asked = proxy.seen.length;
      const check = stack.lifeboat('check', '--from', '1');
      await whileRuns(
        check,
        until('it asks the server', async () => proxy.seen.length > asked),
      );
      await stack.exec('lifeboat', ['sh', '-c', INTERRUPT_CHECK]);
      expect((await check).code).toBe(130);
      proxy.forget();
      const { stdout } = await stack.lifeboatInTurn('copy');
      expect(stdout).toContain('is up to date · 1 snapshot');
      await expectResumed();
    },
  );

  it('continues after its agent was killed, and stores no manifest before its objects', async () => {
    const { ended } = await backupThatHangs();
    await ok('docker', ['kill', '--signal', 'KILL', await stack.id('lifeboat')]);
    await ended;
    proxy.forget();
    const [newest] = await readdir(path.join(backups, stack.project, 'snapshots')).then((all) => all.sort().reverse());
    expect(await objects()).not.toContain(manifestKey(stack.project, newest as string));
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    expect((await ids())[0]).toBe(newest);
    const { code, report } = await stack.backup();
    expect(code, JSON.stringify(report, null, 1)).toBe(0);
    expect(report.copies).toMatchObject([{ status: 'ok', snapshots: 2 }]);
    expect(await ids('--from', '1')).toContain(newest);
    expect(await server.uploads(bucket)).toEqual([]);
    expect(await whole('--from', '1')).toEqual({ code: 0, found: [] });
  });

  it('gets no objects that are damaged at the destination', async () => {
    await change(500_000);
    proxy.script(() => 403);
    expect((await stack.backup()).code).toBe(3);
    proxy.forget();
    const there = new Set(await objects());
    const packs = (await stack.objects()).filter((one) => one.includes('/packs/') && !there.has(one));
    const latest = await stack.json<Manifest>('show', 'latest');
    const needed: string[] = [];
    for (const list of listsOf([latest])) needed.push(...(await packsIn(backups, list)).map(({ key }) => key));
    const pack = packs.find((one) => needed.includes(one)) as string;
    const good = await readFile(path.join(backups, pack));
    const bytes = Buffer.from(good);
    bytes[1000] = (bytes[1000] ?? 0) ^ 1;
    await writeFile(path.join(backups, pack), bytes);
    const { code, stdout } = await stack.lifeboat('copy');
    expect(code).toBe(1);
    expect(stdout).toMatch(/is not copied: .* is not what was stored \(OBJECT_DAMAGED\)/);
    expect(await objects()).not.toContain(pack);
    // The next run stores the content again, and copies it.
    const next = await stack.backup();
    expect(next.report.results[0]?.newBytes).toBeGreaterThan(400_000);
    expect(next.report.copies).toMatchObject([{ status: 'partial', snapshots: 1, error: { code: 'OBJECT_DAMAGED' } }]);
    expect(await ids('--from', '1')).toContain(next.report.snapshot);
    // Once repaired, it is copied.
    await writeFile(path.join(backups, pack), good);
    expect((await stack.lifeboat('copy')).stdout).toContain('is up to date · 1 snapshot');
    expect(await whole('--from', '1')).toEqual({ code: 0, found: [] });
  });

  it('restores everything if the destination is gone: in place, on a new host, and to the destination', async () => {
    const before = await sums();
    for (const name of await readdir(backups)) await rm(path.join(backups, name), { recursive: true });
    await stack.exec('web', ['sh', '-c', 'rm /media/*']);
    const lost = await stack.lifeboat('restore', 'latest', 'web.media', '--yes', '--json');
    const { error } = JSON.parse(lost.stdout) as { error: ErrorInfo };
    expect(error.hint).toContain(`--from s3://${bucket}/base`);
    const ran = await stack.lifeboat('restore', '--from', '1', 'latest', 'web.media', '--yes');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await sums()).toBe(before);

    const restored = path.join(stack.directory, 'restored');
    await mkdir(restored);
    const fresh = await sh('docker', [
      ...['run', '--rm', '--volume', `${restored}:/restored`],
      ...Object.entries(key).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
      ...[image, 'restore', '--from', location, 'latest', 'web.media', '--to-directory', '/restored/media'],
    ]);
    expect(fresh.code, fresh.stdout + fresh.stderr).toBe(0);
    expect(await ok('sh', ['-c', 'cd media && sha256sum * | sort'], { cwd: restored })).toBe(before);

    const back = await stack.lifeboat('copy', '--from', `s3://${bucket}/base`);
    expect(back.code, back.stdout + back.stderr).toBe(0);
    expect(await ids()).toEqual(await ids('--from', '1'));
    const { code, report } = await stack.backup();
    expect(code, JSON.stringify(report, null, 1)).toBe(0);
    expect(report.copies).toMatchObject([{ status: 'ok', snapshots: 1 }]);
    expect(await whole()).toEqual({ code: 0, found: [] });
    expect(await whole('--from', '1')).toEqual({ code: 0, found: [] });
  });

  it('that was emptied is filled again only after a user confirms', async () => {
    const name = `s3://${bucket}/base`;
    await server.empty(bucket);
    const first = await stack.backup();
    expect(first.code).toBe(3);
    expect(first.report.copies).toMatchObject([{ status: 'failed', error: { code: 'DEST_FOREIGN' } }]);
    expect(first.report.copies?.[0]?.error?.hint).toContain(`lifeboat accept ${name}`);
    expect(await server.keys(bucket)).toEqual([]);
    const accepted = await stack.lifeboat('accept', name);
    expect({ code: accepted.code, stdout: accepted.stdout.trim() }).toEqual({
      code: 0,
      stdout: `Accepted: the copy ${name} may be empty. The next run fills it again.`,
    });
    const next = await stack.backup();
    expect(next.code, JSON.stringify(next.report, null, 1)).toBe(0);
    // The snapshots of today, and the two that its retention keeps.
    const sent = next.report.copies?.[0]?.snapshots ?? 0;
    expect(sent).toBeGreaterThan(2);
    expect(await ids('--from', '1')).toEqual((await ids()).slice(0, sent));
    expect(await whole('--from', '1')).toEqual({ code: 0, found: [] });
  });
});
