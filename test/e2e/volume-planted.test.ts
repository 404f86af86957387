import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, Stack, sh, until } from '../harness/stack.ts';

/** Directories of a snapshot, and the targets of the symlinks that an application plants in their places. */
const LEADS = { a: '/canary', b: '/backups', c: '/spool' };

const MAKE = `set -e; cd /data; for d in a b c; do mkdir -p $d/sub; for i in $(seq 1 60); do head -c 2000 /dev/urandom > $d/f$i; done; done
  head -c 6000000 /dev/urandom > large; chmod -R 777 a b c; chown -R 33:33 a b c`;

/** Returns the whole canary, and from the backups and the spool the names of the snapshot and unexpected files. */
const OUTSIDE = `find /canary -printf '%p %y %m %U %G %T@ %s\\n' | sort
  find /backups /spool -maxdepth 2 '(' -name 'f[0-9]*' -o -name sub ')' -printf '%p\\n'
  find /backups -perm /077 -mindepth 1 -printf '%p %m\\n'; find /backups /spool -uid 33 -printf '%p %U\\n'`;

/**
 * Replaces directories of the tree under construction with symlinks, as fast as possible. `flip`: repeatedly, with the
 * directory back in between; otherwise once. Ends when the construction ends. The number of replacements is in a file.
 */
const PLANT = `
const fs = require('fs'); fs.writeFileSync('/tmp/ready', ''); const leads = ${JSON.stringify(LEADS)}, flip = process.argv[1] === 'flip';
const tried = (work) => { try { work(); return true } catch { return false } };
let planted = 0, seen = false;
for (const end = Date.now() + 60000; Date.now() < end; ) {
  const area = fs.readdirSync('/data').find((name) => name.startsWith('.lifeboat-restoring-'));
  if (!area && seen) break;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  if (!area) continue;
  seen = true;
  for (const [name, target] of Object.entries(leads)) {
    const at = '/data/' + area + '/tree/' + name;
    if (!tried(() => fs.renameSync(at, at + '.away'))) continue;
    if (tried(() => fs.symlinkSync(target, at))) fs.writeFileSync('/tmp/planted', String(++planted));
    if (!flip) continue;
    tried(() => fs.unlinkSync(at));
    tried(() => fs.renameSync(at + '.away', at));
  }
}`;

/**
 * A program without root's rights that owns the root of the volume. Once both areas exist, it moves the one for
 * replaced data away and makes its own, with a list that would give it the directory of root. Prints the number of
 * forgeries.
 */
const FORGE = `
const fs = require('fs'); fs.writeFileSync('/tmp/ready', '');
process.setgid(33); process.setuid(33);
const isArea = (name) => name.startsWith('.lifeboat-restoring-');
const old = fs.readdirSync('/data').filter(isArea);
let forged = 0;
for (const end = Date.now() + 60000; Date.now() < end && !forged; ) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  const restoring = fs.readdirSync('/data').find((name) => isArea(name) && !old.includes(name));
  if (!restoring) continue;
  const id = restoring.slice('.lifeboat-restoring-'.length), area = '/data/.lifeboat-before-' + id;
  try { fs.mkdirSync(area); } catch { fs.renameSync(area, '/data/.lifeboat-before-20261128T000000Z-aaaaaa'); fs.mkdirSync(area); }
  const meta = { mode: 0o777, uid: 33, gid: 33, mtime: '1700000000000000000' };
  const header = { format: 1, id, restore: id, holds: 'before', at: new Date().toISOString(), incoming: { text: restoring + '/tree' }, whole: true };
  const step = { type: 'directory', path: { text: 'secret' }, before: meta, after: meta };
  fs.writeFileSync(area + '/moves.ndjson', [header, step].map((line) => JSON.stringify(line) + '\\n').join(''));
  forged++;
}
console.log(forged);`;

// A helper works on the first volume; the agent mounts the second one.
describe('an application that plants symlinks in its volume during a restore', () => {
  let stack: Stack;
  const outside = () => stack.exec('lifeboat', ['sh', '-c', OUTSIDE]);

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        helped: holder(['helped:/data'], { 'lifeboat.volumes': 'true' }),
        mounted: holder(['mounted:/data'], { 'lifeboat.volumes': 'true' }),
        chowning: holder(
          ['chowned:/data'],
          { 'lifeboat.volumes': 'true' },
          { command: ['sh', '-c', 'chown -R 33:33 /data && chmod -R g+w /data && touch /ready && exec sleep 86400'] },
        ),
      },
      volumes: { helped: {}, mounted: {}, chowned: {} },
      agent: { volumes: ['mounted:/volumes/mounted', './canary:/canary'] },
      receiver: false,
    });
    const canary = `cd /canary; mkdir -p sub; for i in 1 2 3; do echo canary > f$i; done; chmod 640 f*; chmod 751 . sub; touch -d '2001-01-01' f* sub .`;
    await stack.exec('lifeboat', ['sh', '-c', canary]);
    for (const service of ['helped', 'mounted']) await stack.exec(service, ['sh', '-c', MAKE]);
    await stack.exec('chowning', ['sh', '-c', 'cd /data; mkdir d; echo then > d/f; echo then > top']);
    expect(await stack.backup()).toMatchObject({ code: 0 });
  }, 300_000);
  afterAll(() => stack?.destroy());

  /** Returns the mounts of the project's helpers during some work. */
  async function mountsWhile(running: Promise<unknown>): Promise<Set<string>> {
    const seen = new Set<string>();
    let over = false;
    const end = running.finally(() => {
      over = true;
    });
    while (!over) {
      for (const name of await stack.helpers()) {
        const { stdout } = await sh('docker', [
          'inspect',
          '--format',
          '{{json .HostConfig.Mounts}} {{json .HostConfig.VolumesFrom}}',
          name,
        ]);
        for (const [, target, rest] of stdout.matchAll(/"Target":"([^"]*)"([^}]*)/g))
          seen.add(`${target} ${rest?.includes('"ReadOnly":true') ? 'ro' : 'rw'}`);
        if (stdout.includes('VolumesFrom":[') || /\[".*"\]/.test(stdout)) seen.add(stdout);
      }
    }
    await end;
    return seen;
  }

  /** Waits until the program that has just been started looks for the restore. */
  const untilReady = (service: string) =>
    until('the program is ready', () =>
      stack.exec(service, ['rm', '/tmp/ready']).then(
        () => true,
        () => false,
      ),
    );

  it.each(['helped', 'mounted'])('reaches nothing outside the volume (%s)', async (service) => {
    const before = await outside();
    expect(before).not.toMatch(/\/(backups|spool)/);
    const data = ['sh', '-c', 'rm -f /data/a/f1; cd /data; find . -type f -exec sha256sum {} + | sort -k 2'];
    const now = await stack.exec(service, data);
    for (const kind of service === 'helped' ? ['once'] : ['once', 'flip']) {
      // A restore that succeeds stops the service and its processes.
      const planting = stack.exec(service, ['node', '-e', PLANT, kind]).catch((error: unknown) => {
        if (kind === 'once') throw error;
      });
      await untilReady(service);
      const restoring = stack.lifeboat('restore', 'latest', `${service}.${service}`, '--yes', '--no-safety');
      const mounts = await mountsWhile(restoring);
      const { code, stderr } = await restoring;
      await planting;
      const planted = await stack.exec(service, ['sh', '-c', 'cat /tmp/planted; rm -f /tmp/planted']);
      expect(Number(planted), 'the planting came too late').toBeGreaterThan(0);
      expect(await outside()).toBe(before);
      if (kind === 'once') {
        expect(stderr).toContain('TREE_TARGET_REFUSED');
        expect(await stack.exec(service, data)).toBe(now);
        expect(await stack.exec(service, ['ls', '-A', '/data'])).not.toContain('.lifeboat');
      } else if (code !== 0) expect(stderr).toContain('TREE_TARGET_REFUSED');
      else {
        expect(await stack.lifeboat('rollback', '--forget', '--yes')).toMatchObject({ code: 0 });
        // What the program planted in the built tree after the swap was planned stays in its area.
        await stack.exec(service, ['sh', '-c', 'rm -rf /data/.lifeboat-restoring-*']);
      }
      if (service === 'mounted') continue;
      expect(mounts).toContain('/source rw');
      const allowed =
        /^(\/source r[ow]|\/backups ro|\/spool\/runs\/[^/ ]+(\/index-[^/ ]+)? r[ow]|\/spool\/state\/runs\/[^/ ]+\.ndjson rw|\/spool\/state\/compile-cache ro)$/;
      expect([...mounts].filter((one) => !allowed.test(one))).toEqual([]);
    }
  });

  it.each(['helped', 'mounted'])('carries out no list of moves that a program forges (%s)', async (service) => {
    const make =
      'cd /data; mkdir -p secret; echo k > secret/k; chmod -R go= secret; chown -R 0:0 secret; chown 33:33 .';
    await stack.exec(service, ['sh', '-c', `${make}; rm -f a/f1`]);
    const facts = ['sh', '-c', "cut -d ' ' -f 22 /proc/1/stat; cd /data; stat -c '%n %U %a' . secret secret/k; ls -A"];
    const before = await stack.exec(service, facts);
    const forging = stack.exec(service, ['node', '-e', FORGE]);
    await untilReady(service);
    const { code, stderr } = await stack.lifeboat('restore', 'latest', `${service}.${service}`, '--yes', '--no-safety');
    expect(Number(await forging), 'the forgery came too late').toBe(1);
    expect({ code, stderr }).toMatchObject({ stderr: expect.stringContaining('TREE_TARGET_REFUSED') });
    expect(stderr).toContain('another program changed the tree');
    // The forged directory stays. The service was not stopped, and what Lifeboat made is gone under every name.
    const after = (await stack.exec(service, facts))
      .split('\n')
      .filter((line) => !line.startsWith('.lifeboat-before-'));
    expect(after.join('\n')).toBe(before);
    const status = await stack.lifeboat('status');
    expect(status.stdout + status.stderr).not.toContain('replaced data kept');
    await stack.exec(service, ['sh', '-c', 'rm -rf /data/.lifeboat-before-* /data/secret; chown 0:0 /data']);
  });

  // Like the entrypoints of redis, mariadb, ghost and many others.
  it('recognises its old data after a service has changed all owners and modes', async () => {
    await stack.exec('chowning', ['sh', '-c', 'cd /data; echo now > d/f; echo now > top; echo now > extra']);
    const data = () => stack.exec('chowning', ['sh', '-c', 'cd /data; cat d/f top; ls']);
    /** Waits until the service has changed the owner of the area, and returns the area's name. */
    const changed = async () => {
      let name = '';
      await until('the service has changed the owners', async () => {
        const script = "cd /data; stat -c '%u %a %n' .lifeboat-* .lifeboat-*/list.ndjson";
        const lines = (await stack.exec('chowning', ['sh', '-c', script]).catch(() => '')).trim().split('\n');
        name = lines[0]?.split(' ')[2] ?? '';
        return lines.length === 2 && lines.every((line) => /^33 (720|620) /.test(line));
      });
      return name;
    };
    const restored = await stack.lifeboat('restore', 'latest', 'chowning.chowned', '--yes', '--no-safety');
    expect(restored.code, restored.stderr).toBe(0);
    expect(await data()).toBe('then\nthen\nd\ntop\n');
    const name = await changed();
    const status = await stack.lifeboat('status');
    expect(status.stdout).toMatch(/chowning\.chowned restored .*: replaced data kept, 12 B/);
    const back = await stack.lifeboat('rollback', '--yes');
    expect(back.code, back.stderr).toBe(0);
    expect(await data()).toBe('now\nnow\nd\nextra\ntop\n');
    expect(await changed()).not.toBe(name);
    const again = await stack.lifeboat('rollback', '--yes');
    expect(again.code, again.stderr).toBe(0);
    expect(await data()).toBe('then\nthen\nd\ntop\n');

    // A service that changes the list itself gets nothing, and the record stays until somebody has moved the data.
    const area = `/data/${await changed()}`;
    await stack.exec('chowning', ['sh', '-c', `echo >> ${area}/list.ndjson`]);
    for (const command of [
      ['rollback', '--yes'],
      ['rollback', '--forget', '--yes'],
    ]) {
      const refused = await stack.lifeboat(...command);
      expect(refused.stderr).toContain('TREE_TARGET_REFUSED');
      expect(refused.stderr).toContain('its list of moves has changed');
    }
    expect((await stack.lifeboat('status')).stdout).toContain('old data not recognised');
    await stack.exec('chowning', ['sh', '-c', `sed -i '$d' ${area}/list.ndjson`]);
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(await data()).toBe('then\nthen\nd\ntop\n');
    expect(await stack.exec('chowning', ['sh', '-c', 'ls -A /data'])).not.toContain('.lifeboat');
  });
});
