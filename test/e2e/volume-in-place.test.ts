import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, Stack, sh, until } from '../harness/stack.ts';
import { times } from '../harness/times.ts';

const KILLS = times(4, 6);

/**
 * Lists every entry of a volume with type, mode, owner, size, mtime to the nanosecond, links and content, without
 * areas.
 */
async function manifest(stack: Stack, service: string): Promise<string[]> {
  const script = `cd /data && find . -path './.lifeboat-*' -prune -o -printf '%p %y %m %U %G %T@ %l ' \\( -type d -printf '-\\n' -o -printf '%n %s\\n' \\) && find . -path './.lifeboat-*' -prune -o -type f -exec sha256sum {} +`;
  return (await stack.exec(service, ['sh', '-c', script])).split('\n').sort();
}

const areas = async (stack: Stack, service: string) =>
  (await stack.exec(service, ['sh', '-c', 'ls -A /data | grep lifeboat || true'])).split('\n').filter(Boolean);

const MAKE = `set -e; cd /data; mkdir -p a/b c; for i in $(seq 1 300); do head -c 3000 /dev/urandom > a/$i; done
  head -c 3000000 /dev/urandom > c/large; ln a/1 c/hard; ln -s ../a/2 c/link; : > c/empty
  printf keep > c/keep; chown -R 33:34 a; chmod 4750 c/keep; chmod 2775 .; chown 12:13 .
  touch -d '2001-02-03 04:05:06.123456789' c/large a/b; touch -d '2010-10-10 10:10:10.101010101' c .`;
/** Changes, removes and adds files, so that the volume differs from the snapshot. */
const CHANGE = `set -e; cd /data; rm -r a/1 a/b c/link; echo new > c/new; echo other > a/3; ln -s /etc c/link
  touch -d '1999-01-01' a/4; mkdir -p deep/er; echo x > deep/er/f; chmod 700 .; touch -d '2015-05-05 05:05:05.5' c .`;

/** As in linux/fs.h: `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS` and `FS_IMMUTABLE_FL`. */
const TOGGLE = `open F, "/data/c" or die $!; my $flags = pack "l", 0; ioctl F, 0x80086601, $flags or die $!;
  ioctl F, 0x40086602, pack("l", unpack("l", $flags) ^ 0x10) or die $!`;

/** Sets or removes the immutable flag of /data/c, in Perl because the image has no `chattr`. */
const toggleImmutable = (container: string) =>
  ok('docker', [
    ...['run', '--rm', '--cap-add', 'LINUX_IMMUTABLE', '--volumes-from', container],
    ...['node:24-trixie-slim', 'perl', '-e', TOGGLE],
  ]);

// A helper works on the first volume; the agent mounts the second one.
describe.each([
  ['through a helper', 'helped', 'helped.helped'],
  ['where the agent has it', 'mounted', 'mounted.mounted'],
])('a volume in use, %s', (_, service, source) => {
  let stack: Stack;
  let then: string[];
  let now: string[];

  beforeAll(async () => {
    stack = await Stack.start({
      env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
      services: { [service]: holder([`${service}:/data`], { 'lifeboat.volumes': service }) },
      volumes: { [service]: {}, restored: {} },
      agent: {
        volumes: [...(service === 'mounted' ? ['mounted:/sources/mounted'] : []), 'restored:/restored'],
      },
    });
    await stack.exec(service, ['sh', '-c', MAKE]);
    then = await manifest(stack, service);
    const ran = await stack.backup();
    expect(ran.code, ran.stderr).toBe(0);
    await stack.exec(service, ['sh', '-c', CHANGE]);
    now = await manifest(stack, service);
  });
  afterAll(() => stack?.destroy());

  const restore = (...options: string[]) => stack.lifeboat('restore', 'latest', source, '--no-safety', ...options);

  it('is inspected without changes', async () => {
    const looked = await restore('--dry-run');
    expect(looked.code, looked.stderr).toBe(0);
    expect(looked.stderr).toMatch(/would replace +\S+ \(.*added.*replaced.*moved away.*the same\)/);
    const refused = await restore();
    expect(refused.stderr).toContain('NOT_CONFIRMED');
    expect(await manifest(stack, service)).toEqual(now);
    expect(await areas(stack, service)).toEqual([]);
  });

  it('that holds an immutable directory is refused before its service is stopped', async () => {
    const container = await stack.id(service);
    const inspect = ['inspect', '--format', '{{.State.StartedAt}} {{.State.Running}}', container];
    const state = await ok('docker', inspect);
    await toggleImmutable(container);
    const refused = await restore('--yes', '--json').finally(() => toggleImmutable(container));
    expect(refused.code, refused.stdout).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code: 'TREE_TARGET_REFUSED', message: expect.stringMatching(/^c cannot be .*immutable/) },
    });
    expect(await ok('docker', inspect)).toBe(state);
    expect(await manifest(stack, service)).toEqual(now);
    expect(await areas(stack, service)).toEqual([]);
  });

  it('is replaced by the snapshot, rolled back, rolled back again, and its old data dropped', async () => {
    const restored = await restore('--yes');
    expect(restored.code, restored.stderr).toBe(0);
    expect(await manifest(stack, service)).toEqual(then);
    expect(await areas(stack, service)).toHaveLength(1);
    const status = await stack.lifeboat('status');
    expect(status.stdout).toMatch(/replaced data kept, \d/);

    // Old data does not count as part of the volume.
    const again = await stack.backup();
    expect(again.report.results).toMatchObject([{ status: 'ok', newFiles: 0 }]);

    expect((await stack.lifeboat('rollback', '--yes')).stderr).not.toContain('error');
    expect(await manifest(stack, service)).toEqual(now);
    const back = await stack.lifeboat('rollback', '--yes');
    expect(back.code, back.stderr).toBe(0);
    expect(await manifest(stack, service)).toEqual(then);
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(await areas(stack, service)).toEqual([]);
    expect(await manifest(stack, service)).toEqual(then);
    expect((await stack.lifeboat('rollback', '--yes')).stderr).toContain('NOTHING_TO_ROLL_BACK');
    expect(await stack.helpers()).toEqual([]);
  });

  it('gets single files back with --path', async () => {
    await stack.exec(service, [
      'sh',
      '-c',
      'cd /data && rm a/10 a/11 && echo newer > a/12 && touch -d 2000-01-01 a/13',
    ]);
    const unknown = await restore('--path', 'a/lagre', '--yes');
    expect(unknown.code, unknown.stderr).toBe(4);
    expect(unknown.stderr).toMatch(/PATH_UNKNOWN[\s\S]*c\/large/);
    const part = await restore('--path', 'a/1[0-3]', '--yes');
    expect(part.code, part.stderr).toBe(0);
    const script = 'cd /data && cat a/12 && stat -c %s a/10 a/11 a/13';
    expect(await stack.exec(service, ['sh', '-c', script])).toBe('newer\n3000\n3000\n3000\n');
    expect((await restore('--path', 'a/12', '--overwrite', '--yes')).code).toBe(0);
    // The time of the directory is that of the deletions.
    const withoutA = (lines: string[]) => lines.filter((line) => !line.startsWith('./a d '));
    expect(withoutA(await manifest(stack, service))).toEqual(withoutA(then));
    const aside = await restore('--path', 'c/large', '--to-directory', '/restored/part');
    expect(aside.code, aside.stderr).toBe(0);
    expect(await stack.exec('lifeboat', ['sh', '-c', 'cd /restored/part && find . -type f'])).toBe('./c/large\n');
    for (let kept = 2; kept > 0; kept--) await stack.lifeboat('rollback', '--forget', '--yes');
    expect(await areas(stack, service)).toEqual([]);
  });

  it('is completely old or completely new, wherever the agent is killed', async () => {
    await stack.exec(service, ['sh', '-c', CHANGE]);
    now = await manifest(stack, service);
    const began = performance.now();
    expect((await restore('--yes')).code).toBe(0);
    const lengthMs = performance.now() - began;
    expect((await stack.lifeboat('rollback', '--yes')).code).toBe(0);
    await stack.lifeboat('rollback', '--forget', '--yes');
    expect(await manifest(stack, service)).toEqual(now);
    const came: string[] = [];
    const agent = await stack.id('lifeboat');
    for (let kill = 0; kill < KILLS; kill++) {
      const stops = kill % 2 === 0 ? [] : ['--no-stop'];
      const child = stack.spawn('restore', 'latest', source, '--no-safety', '--yes', ...stops);
      child.stdout?.resume();
      child.stderr?.resume();
      const ended = new Promise((resolve) => child.once('close', resolve));
      await sleep(randomInt(Math.round(lengthMs * 0.1), Math.round(lengthMs * 1.05)));
      await sh('docker', ['kill', agent]);
      await ended;
      await ok('docker', ['start', agent]);
      const isPutRight = async () => {
        const left = await areas(stack, service);
        // Many checks end here, without hashing every file.
        if (left.some((name) => name.startsWith('.lifeboat-restoring-'))) return false;
        const found = await manifest(stack, service);
        const isNew = JSON.stringify(found) === JSON.stringify(then);
        const isOld = JSON.stringify(found) === JSON.stringify(now);
        if (!(isNew || isOld)) return false;
        return isNew ? left.length === 1 : left.length === 0;
      };
      // The service itself may not have been started again yet.
      await until('the volume is put right', () => isPutRight().catch(() => false));
      const isNew = (await areas(stack, service)).length > 0;
      came.push(isNew ? 'new' : 'old');
      if (!isNew) continue;
      const back = await stack.lifeboatInTurn('rollback', '--yes');
      expect(back.code, back.stderr).toBe(0);
      expect(await manifest(stack, service)).toEqual(now);
      expect((await stack.lifeboat('rollback', '--forget', '--yes')).code).toBe(0);
    }
    expect(came).toHaveLength(KILLS);
  }, 900_000);
});
