import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { DeleteObjectCommand, GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { createS3Destination } from '../../src/destinations/s3/s3.ts';
import type { RunReport } from '../../src/report/events.ts';
import { newSnapshotId } from '../../src/store/objects/snapshot-id.ts';
import { nextPlace } from '../../src/store/repository/chain.ts';
import { takeLease } from '../../src/store/repository/lease.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import type { Snapshot } from '../../src/store/repository/repository.ts';
import { type S3Proxy, startS3Proxy } from '../harness/s3-proxy.ts';
import { S3_KEY, type S3Server, startS3Server } from '../harness/s3-server.ts';
import { holder, hostAddress, ok, postgres, Stack, sh, until, whileRuns } from '../harness/stack.ts';
import { noSightings } from '../store/helpers.ts';

/** Forms of the key that no output may contain: unchanged, in base64, and in a URL. */
const CANARIES = [S3_KEY.secretAccessKey, 'canary-wrong-secret', 'canary-token'].flatMap((secret) => [
  secret,
  Buffer.from(secret).toString('base64').replace(/=+$/, ''),
  encodeURIComponent(secret),
]);

/** A run waits while this file exists. */
const GATE = 'while [ -e /tmp/shut ]; do touch /tmp/held; sleep 0.1; done';

describe('a project whose backups go to an S3 server', () => {
  let server: S3Server;
  let proxy: S3Proxy;
  let stack: Stack;
  let bucket: string;
  let scratch: string;
  /** everything that helpers and the agent have printed */
  const heard: string[] = [];

  beforeAll(async () => {
    scratch = mkdtempSync(path.join(tmpdir(), 'lifeboat-s3-'));
    const key = path.join(scratch, 'key');
    writeFileSync(key, `${S3_KEY.secretAccessKey}\n`);
    server = await startS3Server();
    proxy = await startS3Proxy({ server: server.endpoint, host: '0.0.0.0' });
    bucket = await server.bucket();
    const media = { 'lifeboat.volumes': 'media', 'lifeboat.exec.pre': `sh -c "${GATE}"` };
    stack = await Stack.start({
      services: { db: postgres(17), web: holder(['media:/app/media'], media) },
      volumes: { media: {} },
      secrets: { s3_key: { file: key } },
      env: {
        LIFEBOAT_SCHEDULE: '0 0 1 1 *',
        LIFEBOAT_DESTINATION: `s3://${bucket}/base?endpoint=http://${await hostAddress()}:${proxy.port}`,
        AWS_ACCESS_KEY_ID: S3_KEY.accessKeyId,
        AWS_SECRET_ACCESS_KEY_FILE: '/run/secrets/s3_key',
      },
      agent: { secrets: ['s3_key'] },
    });
    await stack.psql('CREATE DATABASE app');
    await stack.psql('CREATE TABLE t AS SELECT i, md5(i::text) AS v FROM generate_series(1, 200000) i', {
      database: 'app',
    });
    await inMedia(
      'head -c 30000000 /dev/urandom > large; for i in 1 2 3 4 5 6; do head -c 2000000 /dev/urandom > $i; done',
    );
  });
  afterAll(async () => {
    await stack?.destroy();
    await proxy?.close();
    await server?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });

  const inMedia = (script: string) => stack.exec('web', ['sh', '-c', `cd /app/media && ${script}`]);
  const sums = () => inMedia('sha256sum * | sort');
  const rows = () => stack.psql("SELECT count(*), md5(string_agg(v, ',' ORDER BY i)) FROM t", { database: 'app' });
  const packs = async () => (await server.keys(bucket)).filter((key) => key.includes('/packs/'));

  it('stores everything there, and nothing in the directory', async () => {
    const { code, report, stderr } = await stack.backup();
    expect({ code, status: report.status }, stderr + JSON.stringify(report, null, 1)).toEqual({
      code: 0,
      status: 'ok',
    });
    const keys = await server.keys(bucket);
    const root = `base/${stack.project}`;
    expect(keys.filter((key) => !/^(packs|snapshots|leases)\//.test(key.slice(root.length + 1)))).toEqual([
      'base/lifeboat.json',
    ]);
    expect(keys).toContain(`${root}/snapshots/${report.snapshot}/manifest.json`);
    expect(proxy.seen.some(({ operation }) => operation === 'CompleteMultipartUpload')).toBe(true);
    expect(await stack.objects()).toEqual([]);
    expect(await stack.helpers()).toEqual([]);
    const plan = await stack.json<{ destination: string; problems: unknown[] }>('plan');
    expect(plan).toMatchObject({ destination: `s3://${bucket}/base`, problems: [] });
  });

  it('stores almost nothing the second time', async () => {
    const before = await packs();
    const { code, report } = await stack.backup();
    expect(code).toBe(0);
    const web = report.results.find(({ name }) => name === 'web.media');
    expect(web).toMatchObject({ newBytes: 0, newFiles: 0, bytes: 42_000_000 });
    const added = (await packs()).filter((key) => !before.includes(key));
    expect(added.every((key) => key.includes('/packs/db.postgres/'))).toBe(true);
    expect(report.results.reduce((sum, { newBytes }) => sum + newBytes, 0)).toBeLessThan(200_000);
  });

  it('needs few requests if nothing changed, with 60 snapshots', async () => {
    const location = { bucket, prefix: 'base/', endpoint: server.endpoint, pathStyle: true };
    const destination = createS3Destination({ location, credentials: S3_KEY, uploads: scratch, env: {} });
    const repository = await openRepository(destination, { project: stack.project, create: false, keys: {} });
    const list = await repository.snapshots();
    let last = list.snapshots[0] as Snapshot;
    for (let more = 60 - list.snapshots.length; more > 0; more--) {
      const place = { sequence: last.manifest.sequence + 1, previous: last.hash };
      last = await repository.commit({ ...last.manifest, ...place, id: newSnapshotId(new Date()) });
    }
    expect((await stack.backup()).code).toBe(0);
    proxy.forget();
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }).toEqual({ code: 0, status: 'ok' });
    const count = (...operations: string[]) =>
      proxy.seen.filter(({ operation }) => operations.includes(operation)).length;
    const seen = proxy.seen.map(({ operation, path: at }) => `${operation} ${at}`).join('\n');
    expect(count('PutObject', 'UploadPart', 'CreateMultipartUpload'), seen).toBeLessThanOrEqual(10);
    expect(count('ListObjectsV2', 'ListMultipartUploads'), seen).toBeLessThanOrEqual(6);
    expect(count('GetObject', 'HeadObject', 'other'), seen).toBeLessThanOrEqual(20);
  });

  it('restores a lost database and volume, and checks every byte, over a network that fails', async () => {
    const [files, table] = [await sums(), await rows()];
    await stack.psql('DROP DATABASE app WITH (FORCE)');
    await inMedia('rm -rf *');
    proxy.forget();
    proxy.script(({ number }) => (number % 7 === 3 ? 'short' : number % 11 === 5 ? 503 : undefined));
    const database = await stack.lifeboat('restore', 'latest', 'db.postgres');
    expect(database.code, database.stderr).toBe(0);
    const volume = await stack.lifeboat('restore', 'latest', 'web.media');
    expect(volume.code, volume.stderr).toBe(0);
    expect(await rows()).toBe(table);
    expect(await sums()).toBe(files);
    const check = await stack.lifeboat('check', '--read-data');
    expect(check.code, check.stderr).toBe(0);
    expect(proxy.faults).toBeGreaterThan(5);
    proxy.forget();
  });

  it('an agent that is killed during an upload leaves nothing behind, and objects of others stay', async () => {
    const foreign = { upload: `base/${stack.project}/packs/web.media/theirs`, object: 'base/notes.txt' };
    await server.foreignUpload(bucket, foreign.upload);
    await server.client.send(new PutObjectCommand({ Bucket: bucket, Key: foreign.object, Body: 'theirs' }));
    await inMedia('head -c 40000000 /dev/urandom > new');
    proxy.forget();
    proxy.script(({ operation, ofOperation }) => (operation === 'UploadPart' && ofOperation > 1 ? 'hang' : undefined));
    const child = stack.spawn('backup');
    const ended = new Promise((resolve) => child.once('close', resolve));
    await whileRuns(
      ended,
      until('a part hangs', async () => proxy.faults > 0),
    );
    const uploads = await server.uploads(bucket);
    expect(uploads).toHaveLength(2);
    // Two helpers may exist. Neither shows any part of the key.
    const helpers = await stack.helpers();
    expect(helpers.length).toBeGreaterThan(0);
    heard.push(
      await ok('docker', ['inspect', ...helpers]),
      await ok('docker', ['inspect', await stack.id('lifeboat')]),
    );
    for (const helper of helpers) heard.push(await ok('docker', ['top', helper]));
    await ok('docker', ['kill', await stack.id('lifeboat')]);
    await ended;

    proxy.forget();
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    await until('the upload is given up', async () => (await server.uploads(bucket)).length === 1);
    expect(await server.uploads(bucket)).toEqual([foreign.upload]);
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }, JSON.stringify(report, null, 1)).toEqual({ code: 0, status: 'ok' });
    expect(await server.uploads(bucket)).toEqual([foreign.upload]);
    const theirs = await server.client.send(new GetObjectCommand({ Bucket: bucket, Key: foreign.object }));
    expect(await theirs.Body?.transformToString()).toBe('theirs');
    await server.client.send(new DeleteObjectCommand({ Bucket: bucket, Key: foreign.object }));
    // No object is left that no snapshot names.
    const check = await stack.lifeboat('check', '--read-data');
    expect(check.code, check.stderr).toBe(0);
  });

  it('one host at a time: another is refused, and a host that lost the lease commits nothing', async () => {
    const location = { bucket, prefix: 'base/', endpoint: server.endpoint, pathStyle: true };
    const destination = createS3Destination({ location, credentials: S3_KEY, uploads: scratch, env: {} });
    const elsewhere = (ahead = 0) =>
      takeLease({
        ...{ destination, project: stack.project, home: 'elsewhere', holder: 'container theirs', log: silentLog },
        sightings: noSightings,
        now: () => new Date(Date.now() + ahead),
      });
    const theirs = await elsewhere();
    const refused = await stack.backup();
    expect(refused.code).toBe(11);
    expect(refused.report.error).toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining('container theirs'),
    });
    await theirs.release();

    const before = await manifests();
    await stack.exec('web', ['touch', '/tmp/shut']);
    const child = stack.spawn('backup', '--json', 'web.media');
    let stdout = '';
    child.stdout?.on('data', (data: Buffer) => {
      stdout += data.toString();
    });
    const ended = new Promise((resolve) => child.once('close', resolve));
    const held = ['test', '-e', '/tmp/held'];
    const isHeld = async () => (await sh('docker', ['exec', `${stack.project}-web-1`, ...held])).code === 0;
    await whileRuns(ended, until('the run is under way', isHeld));
    await expect(elsewhere()).rejects.toMatchObject({
      code: 'LOCKED',
      message: expect.stringContaining(`container ${stack.project}-lifeboat-1`),
    });
    // According to a clock that is an hour ahead, the lease has expired.
    const taken = await elsewhere(3_600_000);
    await stack.exec('web', ['rm', '/tmp/shut']);
    expect(await ended, stdout).toBe(1);
    expect((JSON.parse(stdout) as RunReport).error).toMatchObject({ code: 'LEASE_LOST' });
    expect(await manifests()).toEqual(before);
    await taken.fence();
    await taken.release();
    const { code, report } = await stack.backup('web.media');
    expect(code, JSON.stringify(report, null, 1)).toBe(0);
    expect((await stack.lifeboat('check')).code).toBe(0);

    // A manifest that is still being sent while another host takes over and commits.
    const arrived = Promise.withResolvers<void>();
    const land = Promise.withResolvers<void>();
    proxy.script(({ operation, path: object }) => {
      if (operation !== 'PutObject' || !object.endsWith('/manifest.json')) return undefined;
      arrived.resolve();
      return { hold: land.promise };
    });
    const late = stack.backup('web.media');
    await whileRuns(late, arrived.promise);
    const other = await elsewhere(3_600_000);
    const repository = await openRepository(destination, { project: stack.project, create: false, keys: {} });
    const list = await repository.snapshots();
    const place = await nextPlace(repository, list, other.claimed);
    const newest = (list.snapshots[0] as Snapshot).manifest;
    const id = newSnapshotId(new Date());
    await repository.commit({ ...newest, ...place, id }, other);
    land.resolve();
    const { report: its } = await late;
    expect(its.snapshot, JSON.stringify(its, null, 1)).toBe(its.id);
    const chain = (await repository.snapshots()).snapshots.map(({ manifest }) => [manifest.id, manifest.sequence]);
    expect(chain.filter(([, sequence]) => Number(sequence) > newest.sequence)).toEqual(
      expect.arrayContaining([
        [its.id, newest.sequence + 1],
        [id, newest.sequence + 2],
      ]),
    );
    const check = await stack.lifeboat('check');
    expect(check.code, check.stdout).toBe(0);
    await other.release();
  });

  it('a permanent network failure fails the run, with nothing left behind, and the next run succeeds', async () => {
    await inMedia('head -c 20000000 /dev/urandom > newer');
    // Except for the newest lease, which always stays.
    const stored = async () => (await server.keys(bucket)).filter((key) => !key.includes('/leases/'));
    const before = await stored();
    proxy.forget();
    proxy.script(({ operation }) => (operation === 'CompleteMultipartUpload' ? 403 : undefined));
    const { code, report } = await stack.backup('web.media');
    expect(code).toBe(1);
    expect(report.results[0]?.error).toMatchObject({
      code: 'DEST_UNWRITABLE',
      message: `s3://${bucket}/base does not let this key store objects`,
      hint: expect.stringContaining('s3:PutObject'),
    });
    expect(await stored()).toEqual(before);
    expect(await server.uploads(bucket)).toHaveLength(1);
    proxy.forget();
    expect((await stack.backup('web.media')).code).toBe(0);
  });

  it('a page of a portal is no list, no object and no lease', async () => {
    const stored = async () => (await server.keys(bucket)).sort();
    const before = await stored();
    const pages = ['ListObjectsV2', 'HeadObject', 'all', 'redirect'];
    for (const which of pages) {
      proxy.forget();
      proxy.script(({ operation }) => {
        if (which === 'redirect') return 'redirect';
        return which === 'all' || which === operation ? 'portal' : undefined;
      });
      const commands = which === 'HeadObject' ? [['backup', 'web.media']] : [['snapshots'], ['check'], ['backup']];
      for (const ran of await Promise.all(commands.map((command) => stack.lifeboat(...command)))) {
        const printed = ran.stdout + ran.stderr;
        heard.push(printed);
        expect(ran.code, which + printed).toBe(1);
        expect(printed, which).toContain(`s3://${bucket}/base did not answer like an S3 server (HTTP `);
        expect(printed, which).toContain(which === 'redirect' ? 'http://portal.example/login' : 'text/html');
        expect(printed, which).not.toMatch(
          /OBJECT_DAMAGED|LOCKED|CHAIN_BROKEN|accept destination|Deserialization|canary/,
        );
      }
    }
    proxy.forget();
    expect(await stored()).toEqual(before);
    expect((await stack.backup('web.media')).code).toBe(0);
  });

  it('a wrong key is reported as such, and nothing is listed', async () => {
    const wrong = ['--env', 'AWS_SECRET_ACCESS_KEY_FILE=', '--env', 'AWS_SECRET_ACCESS_KEY=canary-wrong-secret'];
    for (const command of [['snapshots'], ['check'], ['backup']]) {
      const argv = ['compose', 'exec', '--no-TTY', ...wrong, 'lifeboat', 'lifeboat', ...command];
      const ran = await sh('docker', argv, { cwd: stack.directory });
      expect(ran.code, ran.stdout).toBe(1);
      expect(ran.stdout + ran.stderr).toContain(`s3://${bucket}/base refused the key`);
      expect(ran.stdout + ran.stderr).toContain('DEST_UNWRITABLE');
      heard.push(ran.stdout, ran.stderr);
    }
  });

  it('the key appears nowhere', async () => {
    heard.push(await stack.logs('lifeboat'), JSON.stringify(stack.receiver?.requests));
    heard.push((await server.keys(bucket)).join('\n'));
    const { Body } = await server.client.send(
      new GetObjectCommand({ Bucket: bucket, Key: (await manifests()).at(-1) ?? '' }),
    );
    heard.push((await Body?.transformToString()) ?? '');
    expect(heard.join('').length).toBeGreaterThan(10_000);
    for (const canary of CANARIES) expect(heard.filter((text) => text.includes(canary))).toEqual([]);
  });

  it('an emptied bucket is refused, and stays empty', async () => {
    await server.empty(bucket);
    const { code, report } = await stack.backup('web.media');
    expect({ code, error: report.error }).toMatchObject({
      code: 1,
      error: { code: 'DEST_FOREIGN', hint: expect.stringContaining('lifeboat accept destination') },
    });
    expect(stack.receiver?.requests.filter(({ path: at }) => at.startsWith('/ping/')).at(-1)?.path).toContain('/fail');
    for (const command of ['check', 'status', 'plan']) {
      const ran = await stack.lifeboat(command);
      const message = `s3://${bucket}/base is empty but should hold repository`;
      expect(ran.stdout + ran.stderr, command).toContain(message);
    }
    expect(await server.keys(bucket)).toEqual([]);
  });

  const manifests = async () => (await server.keys(bucket)).filter((key) => key.endsWith('/manifest.json'));
});
