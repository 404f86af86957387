import { randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import { holder, Stack, type StackOptions } from '../harness/stack.ts';
import { times } from '../harness/times.ts';

const FILLS = Number(process.env.LIFEBOAT_FILLS ?? times(10, 16));
const tmpfs = (size: string) => ({
  driver: 'local',
  driver_opts: { type: 'tmpfs', device: 'tmpfs', o: `size=${size}` },
});

/** A volume that the agent reads itself, so that runs are short. */
const OPTIONS: StackOptions = {
  env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
  services: {
    web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }),
    small: holder(['little:/data'], { 'lifeboat.volumes': 'little' }),
  },
  volumes: { media: {}, little: {}, store: tmpfs('24m'), spool: tmpfs('40m') },
  agent: { volumes: ['media:/v/media:ro', 'little:/v/little:ro', 'store:/store', './restored:/restored'] },
};

const withDestination = (destination: string, volumes: string[] = []): StackOptions => ({
  ...OPTIONS,
  env: { ...OPTIONS.env, LIFEBOAT_DESTINATION: destination },
  agent: { volumes: [...(OPTIONS.agent?.volumes ?? []), ...volumes] },
});

describe('a full disk', () => {
  let stack: Stack;
  const agent = (script: string) => stack.exec('lifeboat', ['sh', '-c', script]);
  // Except for the newest lease, which always stays.
  const stored = () => agent('cd /store/repository && find . -type f ! -path "*/leases/*" -exec sha256sum {} + | sort');

  beforeAll(async () => {
    stack = await Stack.start(withDestination('/store/repository'));
    await agent('mkdir /store/repository');
    await stack.exec('small', ['sh', '-c', 'head -c 20000 /dev/urandom > /data/file']);
    await change();
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }, JSON.stringify(report)).toEqual({ code: 0, status: 'ok' });
  });
  afterAll(() => stack?.destroy());

  /** Replaces the content of the previous round, so that each run stores the same amount. */
  const change = () =>
    stack.exec('web', ['sh', '-c', 'rm -rf /data/*; for i in 1 2 3; do head -c 700000 /dev/urandom > /data/$i; done']);

  /** Leaves `bytes` free, in blocks of 4 KiB. */
  async function leaveFree(directory: string, free: number): Promise<void> {
    const blocks = Math.floor(free / 4096);
    await agent(
      `rm -f ${directory}/ballast; n=$(($(stat -f -c %a ${directory}) - ${blocks})); [ $n -le 0 ] || dd if=/dev/zero of=${directory}/ballast bs=4096 count=$n status=none`,
    );
  }

  function expectReported(report: RunReport, code: string): void {
    const pings = stack.receiver?.requests.filter(({ query }) => query.rid === report.rid) ?? [];
    expect(pings.map(({ path }) => path.split('/')[3] ?? '')).toEqual(['start', 'fail']);
    expect(pings[1]?.body).toContain(code);
  }

  /** A run that fails as a whole names what is safe, and the command that repeats it. */
  function expectNextStep(report: RunReport): void {
    expect(report).toMatchObject({ error: { code: 'DEST_FULL' }, results: [], safe: [{ name: 'web.media' }] });
    const { body } = stack.receiver?.requests.findLast(({ query }) => query.rid === report.rid) ?? {};
    expect(body).toContain('safe: the last good snapshot is');
    expect(body).toContain(`(${report.safe?.[0]?.lastGood?.snapshot}): web.media`);
    expect(body).toContain('try again: docker compose exec lifeboat lifeboat backup web.media');
  }

  it(`at the destination: fails, stores nothing and damages nothing, at ${FILLS} points`, async () => {
    const need = 2_100_000;
    let failures = 0;
    for (let round = 0; round < FILLS; round++) {
      await change();
      const before = await stored();
      // Half of the points anywhere, and half where the pack fits but the index or the manifest may not.
      // In the first round, not even the lease can be written.
      const anywhere = round === 0 ? 0 : randomInt(need);
      const free = round % 2 === 0 ? anywhere : need + randomInt(-12_288, 28_672);
      await leaveFree('/store', free);
      const { code, report } = await stack.backup('web.media');
      const told = `${free} bytes free: ${JSON.stringify(report)}`;
      if (code === 0) {
        expect(report.status, told).toBe('ok');
        expect(free, told).toBeGreaterThan(need - 12_288);
      } else {
        failures++;
        expect({ code, status: report.status, snapshot: report.snapshot }, told).toEqual({
          code: 1,
          status: 'failed',
          snapshot: undefined,
        });
        expect((report.error ?? report.results[0]?.error)?.code, told).toBe('DEST_FULL');
        expect(await stored(), told).toBe(before);
        expectReported(report, 'DEST_FULL');
        if (round === 0) expectNextStep(report);
      }
      await agent('rm -f /store/ballast');
    }
    expect(failures).toBeGreaterThanOrEqual(FILLS / 2);
    const { code } = await stack.backup();
    expect(code).toBe(0);
    const restored = await stack.lifeboat('restore', 'latest', 'web.media', '--to-directory', '/restored/media');
    expect(restored.code, restored.stderr).toBe(0);
  }, 600_000);

  it('at the destination: a source that still fits is stored, and the run is reported as partial', async () => {
    await change();
    await stack.exec('small', ['sh', '-c', 'head -c 20000 /dev/urandom > /data/file']);
    await leaveFree('/store', 400_000);
    const { code, report } = await stack.backup();
    await agent('rm /store/ballast');
    expect(code, JSON.stringify(report)).toBe(3);
    expect(Object.fromEntries(report.results.map(({ name, status }) => [name, status]))).toEqual({
      'small.little': 'ok',
      'web.media': 'failed',
    });
    expect(report.results.find(({ name }) => name === 'web.media')?.error?.code).toBe('DEST_FULL');
    expect((await stack.lifeboat('check', '--read-data')).code).toBe(0);
  });

  it('at the spool: the run fails and is reported, at any point', async () => {
    let failures = 0;
    for (const free of [0, 4096, 8192, 16384]) {
      await change();
      const before = await stored();
      await leaveFree('/spool', free);
      const { code, report } = await stack.backup('web.media');
      await agent('rm -f /spool/ballast');
      const told = `${free} bytes free: ${JSON.stringify(report)}`;
      if (free === 0) expect(code, told).toBe(1);
      if (code === 0) continue;
      failures++;
      expect({ code, status: report.status }, told).toEqual({ code: 1, status: 'failed' });
      expect((report.error ?? report.results[0]?.error)?.code, told).toBe('SPOOL_FULL');
      expect(await stored(), told).toBe(before);
      expectReported(report, 'SPOOL_FULL');
    }
    expect(failures).toBeGreaterThanOrEqual(2);
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }, JSON.stringify(report)).toEqual({ code: 0, status: 'ok' });
  });
});

describe('a wrong destination', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start(withDestination('/srv'));
    // Different contents: equal ones would be stored once, and the loss of a single pack is taken for damage.
    for (const service of ['web', 'small']) await stack.exec(service, ['sh', '-c', `echo ${service} > /data/file`]);
  });
  afterAll(() => stack?.destroy());

  async function expectRefused(code: string): Promise<void> {
    const ran = await stack.backup();
    expect({ code: ran.code, status: ran.report.status, error: ran.report.error?.code }, JSON.stringify(ran)).toEqual({
      code: 1,
      status: 'failed',
      error: code,
    });
    expect(ran.report.error?.hint).toBeTruthy();
    const pings = stack.receiver?.requests.filter(({ query }) => query.rid === ran.report.rid) ?? [];
    expect(pings.map(({ path }) => path.split('/')[3] ?? '')).toEqual(['start', 'fail']);
  }

  it('on no mount is refused, and nothing is written to the container itself', async () => {
    const plan = await stack.json<{ problems: { code: string }[] }>('plan');
    expect(plan.problems).toContainEqual(expect.objectContaining({ code: 'DEST_NOT_MOUNTED', severity: 'error' }));
    await expectRefused('DEST_NOT_MOUNTED');
    expect(await stack.exec('lifeboat', ['find', '/srv', '-mindepth', '1'])).toBe('');
    const { code, stderr } = await stack.lifeboat('snapshots');
    expect(code).toBe(1);
    expect(stderr).toContain('DEST_NOT_MOUNTED');
  });

  it('that is mounted read-only is refused before anything is read', async () => {
    await stack.write(withDestination('/fixed', ['./backups:/fixed:ro']));
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    await expectRefused('DEST_UNWRITABLE');
    expect(await stack.objects()).toEqual([]);
  });

  it('that holds something else is refused, and stays unchanged', async () => {
    await stack.write(withDestination('/backups'));
    await stack.compose('up', '--detach', '--wait', 'lifeboat');
    await stack.exec('lifeboat', ['sh', '-c', 'mkdir /backups/holiday && echo dear > /backups/holiday/diary']);
    await expectRefused('DEST_FOREIGN');
    expect(await stack.objects()).toEqual(['holiday/diary']);
  });

  /** Returns the output of every command while the destination is not the known one. */
  async function expectRefusedByAll(message: string): Promise<void> {
    await expectRefused('DEST_FOREIGN');
    for (const command of [
      ['check'],
      ['snapshots'],
      ['prune'],
      ['restore', 'latest', 'web.data', '--yes'],
      ['pin', 'latest'],
    ]) {
      const { code, stdout, stderr } = await stack.lifeboat(...command);
      expect({ command, code, told: (stdout + stderr).includes(message) }, stdout + stderr).toEqual({
        command,
        code: 1,
        told: true,
      });
    }
    const status = await stack.lifeboat('status');
    expect(status.code, status.stdout).toBe(1);
    expect(status.stdout).toContain(`! destination: /backups ${message}`);
    const plan = await stack.json<{ problems: { code: string; severity: string }[] }>('plan');
    expect(plan.problems).toContainEqual(expect.objectContaining({ code: 'DEST_FOREIGN', severity: 'error' }));
  }

  it('that is empty but held backups is refused by every command until it is accepted', async () => {
    await stack.exec('lifeboat', ['rm', '-r', '/backups/holiday']);
    const { code, report } = await stack.backup();
    expect(code, JSON.stringify(report)).toBe(0);
    const move = (from: string, to: string) =>
      stack.exec('lifeboat', ['sh', '-c', `mkdir -p ${to} && mv ${from}/* ${to}/`]);
    await move('/backups', '/tmp/away');
    await expectRefusedByAll('is empty but should hold repository');
    expect(await stack.objects()).toEqual([]);
    // After it is mounted again, everything works as before.
    await move('/tmp/away', '/backups');
    expect((await stack.backup()).code).toBe(0);
    expect((await stack.lifeboat('status')).code).toBe(0);

    // Results of an earlier version that did not record the repository.
    await stack.exec('lifeboat', ['rm', '/spool/state/repository.json']);
    await move('/backups', '/tmp/first');
    await expectRefused('DEST_FOREIGN');
    const accepted = await stack.json<{ how: string; repository: string }>('accept', 'destination');
    expect(accepted).toMatchObject({ accepted: 'destination', how: 'created', snapshots: 0 });
    const fresh = await stack.backup();
    expect(fresh.code, JSON.stringify(fresh.report)).toBe(0);
    expect((await stack.json<{ snapshots: unknown[] }>('snapshots')).snapshots).toHaveLength(1);
  });

  it('with another repository than the known one is refused until it is accepted', async () => {
    await stack.exec('lifeboat', [
      'sh',
      '-c',
      'mkdir /tmp/second && mv /backups/* /tmp/second/ && mv /tmp/first/* /backups/',
    ]);
    const before = await stack.objects();
    await expectRefused('DEST_FOREIGN');
    expect(await stack.objects()).toEqual(before);
    const read = await stack.json<{ snapshots: unknown[] }>('snapshots', '--from', '/backups');
    expect(read.snapshots).toHaveLength(2);
    expect(await stack.json('accept', 'destination')).toMatchObject({ how: 'found', snapshots: 2 });
    expect((await stack.backup()).code).toBe(0);
  });

  it('without its lifeboat.json is refused, and repaired when it is accepted', async () => {
    const text = await stack.exec('lifeboat', ['cat', '/backups/lifeboat.json']);
    await stack.exec('lifeboat', ['rm', '/backups/lifeboat.json']);
    await expectRefused('DEST_FOREIGN');
    expect(await stack.json('accept', 'destination')).toMatchObject({ how: 'mended', snapshots: 3 });
    expect(await stack.exec('lifeboat', ['cat', '/backups/lifeboat.json'])).toBe(text);
    expect((await stack.backup()).code).toBe(0);
    expect((await stack.lifeboat('check', '--read-data')).code).toBe(0);
  });

  it('that has lost snapshots is refused until they are back, or the present state is accepted', async () => {
    const inside = (script: string) => stack.exec('lifeboat', ['sh', '-c', script]);
    // The directory of the project is gone, but lifeboat.json is not.
    await inside('mkdir /tmp/lost && mv /backups/*/ /tmp/lost/ && ls /backups/lifeboat.json');
    const { code, report } = await stack.backup();
    expect({ code, error: report.error?.code }, JSON.stringify(report)).toEqual({ code: 1, error: 'CHAIN_BROKEN' });
    expect((await stack.objects()).filter((key) => key.endsWith('manifest.json'))).toEqual([]);
    expect((await stack.lifeboat('check')).stdout).toContain('has lost snapshot');
    const status = await stack.lifeboat('status');
    expect({ code: status.code, text: status.stdout }).toEqual({
      code: 1,
      text: expect.stringContaining('! destination: /backups has lost snapshots'),
    });
    await inside('rm -rf /backups/*/; mv /tmp/lost/* /backups/');
    expect((await stack.backup()).code).toBe(0);
    // One in the middle is gone, and the newest was edited. Each backup reports that, and deletes nothing until it is
    // accepted.
    const [lost, , edited] = (await stack.json<{ snapshots: { id: string }[] }>('snapshots')).snapshots
      .map(({ id }) => id)
      .reverse()
      .slice(-3) as [string, string, string];
    await inside(`mkdir /tmp/one && mv /backups/*/snapshots/${lost} /tmp/one/`);
    await inside(`sed -i 's/"agentVersion":"[^"]*"/"agentVersion":"9"/' /backups/*/snapshots/${edited}/manifest.json`);
    const found = await stack.backup();
    expect(found.code).toBe(3);
    for (const { subject, text } of [
      { subject: edited, text: /was changed since/ },
      { subject: lost, text: /has lost snapshot .* \(sequence \d+\)/ },
    ]) {
      expect(found.report.problems).toContainEqual(
        expect.objectContaining({ code: 'CHAIN_BROKEN', subject, message: expect.stringMatching(text) }),
      );
      expect((await stack.lifeboat('status')).stdout).toMatch(text);
      expect((await stack.lifeboat('snapshots')).stdout).toMatch(text);
    }
    expect(JSON.parse((await stack.lifeboat('prune', '--json')).stdout)).toMatchObject({
      error: { code: 'CHAIN_BROKEN' },
    });
    await inside('mv /tmp/one/* /backups/*/snapshots/');
    await stack.json('accept', 'destination');
    expect((await stack.backup()).code).toBe(0);
    // The packs are on a share that is not mounted. This is no damage, and nothing is stored again.
    await inside('cd /backups/*/ && mv packs /tmp/packs && ln -s /mnt/nas packs');
    for (const [code, ready] of [
      ['DEST_UNREACHABLE', 'true'],
      ['DEST_FOREIGN', 'rm packs'],
      ['DEST_FOREIGN', 'mkdir packs'],
    ]) {
      await inside(`cd /backups/*/ && ${ready}`);
      expect((await stack.backup()).report.error?.code).toBe(code);
      expect(JSON.parse((await stack.lifeboat('check', '--json')).stdout)).toMatchObject({ error: { code } });
    }
    await inside('cd /backups/*/ && rm -rf packs && mv /tmp/packs packs');
    const back = await stack.backup();
    expect(back.code).toBe(0);
    expect((await stack.lifeboat('check', '--read-data')).code).toBe(0);
    // An older state of the same disk.
    await inside('rm -r "$(ls -d /backups/*/snapshots/* | tail -n 1)"');
    expect((await stack.backup()).report.error?.code).toBe('CHAIN_BROKEN');
    await stack.json('accept', 'destination');
    expect((await stack.backup()).code).toBe(0);
  });
});
