import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetBucketLifecycleConfigurationCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketPolicyCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { CheckResult } from '../../src/check/check.ts';
import { createS3Destination } from '../../src/destinations/s3/s3.ts';
import type { Problem } from '../../src/plan/model.ts';
import type { PruneResult } from '../../src/prune/prune.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { manifestKey } from '../../src/store/objects/manifest.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { type S3Proxy, startS3Proxy } from '../harness/s3-proxy.ts';
import { S3_KEY, type S3Server, startS3Server } from '../harness/s3-server.ts';
import { holder, hostAddress, Stack, type StackOptions } from '../harness/stack.ts';

const DAY_MS = 86_400_000;

/** A bucket that Lifeboat configures, an attacker with its key, and a key that cannot delete. */
describe('a bucket that protects its objects', () => {
  let server: S3Server;
  let proxy: S3Proxy;
  let endpoint: string;
  let scratch: string;
  let stack: Stack;
  const locked = `locked-${randomBytes(5).toString('hex')}`;

  const options = (bucket: string, key: typeof S3_KEY): StackOptions => ({
    services: { web: holder(['media:/media'], { 'lifeboat.volumes': 'media', 'lifeboat.keep': 'last 1' }) },
    volumes: { media: {} },
    receiver: false,
    env: {
      LIFEBOAT_SCHEDULE: '0 0 1 1 *',
      LIFEBOAT_DESTINATION: `s3://${bucket}/base?endpoint=${endpoint}`,
      AWS_ACCESS_KEY_ID: key.accessKeyId,
      AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    },
  });
  const inMedia = (script: string) => stack.exec('web', ['sh', '-c', `cd /media && ${script}`]);
  const write = (name: string) => inMedia(`head -c 300000 /dev/urandom > ${name}`);
  const sums = () => inMedia('sha256sum * | sort');
  const check = async (...args: string[]) => {
    const { code, stdout } = await stack.lifeboat('check', '--json', ...args);
    return { code, ...(JSON.parse(stdout) as CheckResult & { rules: Problem[] }) };
  };
  const well = async () => {
    const { code, report, stderr } = await stack.backup();
    expect({ code, problems: report.problems }, stderr + JSON.stringify(report)).toEqual({ code: 0, problems: [] });
    return report;
  };

  /** Turns the snapshot into four of the last days, because prune keeps those of today and the newest earlier one. */
  async function age(bucket: string, credentials: typeof S3_KEY) {
    const location = { bucket, prefix: 'base/', endpoint: server.endpoint, pathStyle: true };
    const destination = createS3Destination({ location, credentials, uploads: path.join(scratch, bucket), env: {} });
    const { project } = stack;
    const repository = await openRepository(destination, { project, create: false, keys: {} });
    const [newest] = (await repository.snapshots()).snapshots;
    const manifest = newest?.manifest as Manifest;
    await destination.delete(manifestKey(project, manifest.id));
    let previous: string | null = null;
    for (const [i, days] of [5, 4, 3, 2].entries()) {
      const start = new Date(Date.now() - days * DAY_MS).toISOString();
      const id = `${start.slice(0, 19).replaceAll(/[-:]/g, '')}Z-00000${i}`;
      const old: Manifest = { ...manifest, id, start, end: start, sequence: i + 1, previous };
      previous = (await repository.commit(old)).hash;
    }
    // The agent remembers the snapshot under its former name.
    await stack.json('accept', 'destination');
  }

  beforeAll(async () => {
    scratch = mkdtempSync(path.join(tmpdir(), 'lifeboat-bucket-'));
    server = await startS3Server();
    // Only so that the containers of a project can reach it.
    proxy = await startS3Proxy({ server: server.endpoint, host: '0.0.0.0' });
    endpoint = `http://${await hostAddress()}:${proxy.port}`;
    stack = await Stack.start(options(locked, S3_KEY));
    await write('base');
  });
  afterAll(async () => {
    await stack?.destroy();
    await proxy?.close();
    await server?.stop();
    rmSync(scratch, { recursive: true, force: true });
  });

  it('is configured by the command, which first only shows what it would do', async () => {
    const setup = (...args: string[]) =>
      stack.lifeboat('bucket', 'setup', '--lock', '1d', '--lock-mode', 'compliance', ...args);
    const shown = await setup();
    expect(shown.code, shown.stderr).toBe(0);
    expect(shown.stdout).toMatch(/bucket +would be set +does not exist → exists\n/);
    expect(shown.stdout).toContain('Nothing was changed. Apply the settings with --yes.');
    const set = await setup('--yes');
    expect(set.code, set.stdout + set.stderr).toBe(0);
    expect(set.stdout).toMatch(/lock +set +off → 1 day, compliance\n/);
    const again = await setup();
    expect(again.stdout).toMatch(/lock +ok +1 day, compliance\n/);
  });

  it('locks what a snapshot needs for the configured time, and prunes successfully', async () => {
    const began = Date.now();
    await well();
    for (const Key of (await server.keys(locked)).filter((key) => /packs|index|lifeboat\.json/.test(key))) {
      const head = await server.client.send(new HeadObjectCommand({ Bucket: locked, Key }));
      expect(head.ObjectLockRetainUntilDate?.getTime() ?? 0, Key).toBeGreaterThan(began + 1.2 * DAY_MS);
    }
    await age(locked, S3_KEY);
    await write('second');
    const second = await well();
    // Here a deletion only hides the object, because the lock keeps the version.
    expect(second.pruned, JSON.stringify(second.pruned)).toMatchObject({ snapshots: 3 });
    expect(second.pruned?.refused).toBeUndefined();
    expect((await check()).code).toBe(0);
  });

  it('reports rules by others that would remove backups', async () => {
    const { Rules = [] } = await server.client.send(new GetBucketLifecycleConfigurationCommand({ Bucket: locked }));
    const set = (rules: typeof Rules) =>
      server.client.send(
        new PutBucketLifecycleConfigurationCommand({ Bucket: locked, LifecycleConfiguration: { Rules: rules } }),
      );
    await set([...Rules, { ID: 'tidy', Status: 'Enabled', Filter: { Prefix: 'ba' }, Expiration: { Days: 90 } }]);
    expect(await check()).toMatchObject({ code: 3, damaged: [], rules: [{ code: 'DEST_RULES' }] });
    const plan = await stack.lifeboat('plan');
    expect(plan.stdout).toContain(
      'the lifecycle rule "tidy" of the bucket applies to backups: objects expire after 90 days',
    );
    expect(plan.code).toBe(3);
    await set(Rules);
    expect((await stack.lifeboat('plan')).code).toBe(0);
  });

  it('restores everything after an attacker used its own key to delete and overwrite all objects', async () => {
    const content = await sums();
    await sleep(1100);
    const before = new Date().toISOString();
    await sleep(1100);
    const objects = await server.keys(locked);
    for (const [i, Key] of objects.entries()) {
      if (i % 2 === 0) await server.client.send(new PutObjectCommand({ Bucket: locked, Key, Body: 'pay me' }));
      else await server.client.send(new DeleteObjectCommand({ Bucket: locked, Key }));
    }
    const { Versions = [] } = await server.client.send(new ListObjectVersionsCommand({ Bucket: locked }));
    for (const { Key = '', VersionId } of Versions) {
      const request = { Bucket: locked, Key, VersionId, BypassGovernanceRetention: true };
      await server.client.send(new DeleteObjectCommand(request)).catch(() => undefined);
    }
    await inMedia('rm *; echo pay me > ransom');
    const lost = await stack.lifeboat('restore', 'latest', 'web.media', '--yes');
    expect(lost.code).toBe(1);

    const shown = await stack.lifeboat('bucket', 'undelete', '--before', before);
    expect(shown.code, shown.stderr).toBe(0);
    expect(shown.stdout).toContain('would be restored');
    expect((await stack.lifeboat('snapshots')).code).not.toBe(0);
    const done = await stack.json<{ failed: unknown[]; copied: number; undeleted: number }>(
      ...['bucket', 'undelete', '--before', before, '--yes'],
    );
    expect(done.failed).toEqual([]);
    expect(done.copied).toBeGreaterThan(0);
    expect(done.undeleted).toBeGreaterThan(0);
    expect(await server.keys(locked)).toEqual(objects);
    expect(await check('--read-data')).toMatchObject({ code: 0, damaged: [], manifests: [] });
    const restored = await stack.lifeboat('restore', 'latest', 'web.media', '--yes');
    expect(restored.code, restored.stderr).toBe(0);
    expect(await sums()).toBe(content);
    await well();
  });

  it('can hold a copy too, which is locked for the same time, checked, and restored from', async () => {
    const bucket = `copy-${randomBytes(5).toString('hex')}`;
    const copy = `s3://${bucket}/base`;
    const { env, ...rest } = options(locked, S3_KEY);
    await stack.write({ ...rest, env: { ...env, LIFEBOAT_COPY: `${copy}?endpoint=${endpoint}&keep=last+2` } });
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    const lock = ['--lock', '1d', '--lock-mode', 'compliance', '--yes'];
    const destination = ['--destination', `${copy}?endpoint=${endpoint}`];
    const set = await stack.lifeboat('bucket', 'setup', ...destination, ...lock);
    expect(set.code, set.stdout + set.stderr).toBe(0);
    const began = Date.now();
    for (let run = 0; run < 2; run++) {
      await write('changing');
      expect((await well()).copies).toMatchObject([{ name: copy, status: 'ok' }]);
    }
    const stored = (await server.keys(bucket)).filter((key) => /packs|index|lifeboat\.json/.test(key));
    expect(stored.length).toBeGreaterThan(3);
    for (const Key of stored) {
      const head = await server.client.send(new HeadObjectCommand({ Bucket: bucket, Key }));
      expect(head.ObjectLockMode, Key).toBe('COMPLIANCE');
      expect(head.ObjectLockRetainUntilDate?.getTime() ?? 0, Key).toBeGreaterThan(began + 1.2 * DAY_MS);
    }
    expect(await check('--from', '1', '--read-data')).toMatchObject({ code: 0, damaged: [], manifests: [] });
    const content = await sums();
    await inMedia('rm *');
    const restored = await stack.lifeboat('restore', '--from', '1', 'latest', 'web.media', '--yes');
    expect(restored.code, restored.stdout + restored.stderr).toBe(0);
    expect(await sums()).toBe(content);
  });

  it('with a key that cannot delete, backups succeed and say what they keep; another agent prunes', async () => {
    const bucket = await server.bucket();
    const { arn, key } = await server.user();
    await stack.write(options(bucket, key));
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    const allow = async (...args: string[]) => {
      const { stdout: Policy } = await stack.lifeboat('bucket', 'policy', '--principal', arn, ...args);
      await server.client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }));
    };
    await allow();
    // Another location is used only if a user confirms it.
    expect((await stack.lifeboat('accept', 'destination')).code).toBe(0);
    await well();
    await age(bucket, key);
    await allow('--append-only');
    for (let run = 0; run < 2; run++) {
      await write(`run-${run}`);
      const kept = { snapshots: 0, objects: 0, refused: { snapshots: 3, objects: 0 } };
      expect((await well()).pruned).toMatchObject(kept);
    }
    const before = (await server.keys(bucket)).filter((one) => !one.includes('/leases/'));
    for (let again = 0; again < 2; again++) {
      const ran = await stack.lifeboat('prune');
      expect(ran.code, ran.stderr).toBe(0);
      expect(ran.stdout).toContain('3 snapshots and 0 objects stay, because the destination refuses to delete them');
    }
    expect((await server.keys(bucket)).filter((one) => !one.includes('/leases/'))).toEqual(before);
    expect(before.filter((one) => /tombstones|unreferenced/.test(one))).toEqual([]);
    expect(await check('--read-data')).toMatchObject({ code: 0, snapshots: 6, manifests: [] });
    expect((await stack.lifeboat('pin', 'latest')).code).toBe(0);
    const unpin = await stack.lifeboat('unpin', 'latest', '--json');
    expect(JSON.parse(unpin.stdout)).toMatchObject({ error: { code: 'DELETE_REFUSED' } });

    // With more rights, like an agent on another host.
    await allow();
    const pruned = await stack.json<PruneResult>('prune');
    expect(pruned).toMatchObject({ snapshots: 3 });
    expect(pruned.refused).toBeUndefined();
    expect(await check()).toMatchObject({ code: 0, snapshots: 3, manifests: [] });
  });
});
