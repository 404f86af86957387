import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { createOwn } from '../../../../src/store/exchange/own-area.ts';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import * as fileSystem from '../../../../src/store/filesystem/file-system.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { type Bench, createBench } from '../../helpers.ts';
import { AT, createVolumeBench, ID, SECOND, THIRD, type VolumeBench } from '../volume-bench.ts';

/**
 * A directory is an area only if the journal or the record says so: it has the recorded identity and holds the recorded
 * proof. Nothing else is moved, changed or removed.
 */

const BEFORE = `.lifeboat-before-${ID}`;
const RESTORING = `.lifeboat-restoring-${ID}`;
const FORGED = '20200101T000000Z-00000f';

vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) =>
  (await import('../killed.ts')).withoutRevert(original),
);

let bench: Bench;
let volume: string;
let agent: VolumeBench;
const inVolume = (...parts: string[]) => join(volume, ...parts);

beforeEach(() => {
  bench = createBench();
  fill(join(bench.spool, '..', 'volume'));
});
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

function fill(root: string): void {
  volume = root;
  agent = createVolumeBench(bench, volume);
  for (const one of [bench.tree, volume]) {
    mkdirSync(join(one, 'd'), { recursive: true });
    writeFileSync(join(one, 'd/f'), `f of ${one}`);
    writeFileSync(join(one, 'top'), `top of ${one}`);
  }
}

const build = async (select?: string) =>
  agent.build(await bench.store(), {
    overwrite: true,
    ...(select === undefined ? {} : { select: selectByGlobs([select]) }),
  });
const live = () => (readFileSync(inVolume('top'), 'utf8').includes('/tree') ? 'new' : 'old');
const chown = () => execFileSync('chown', ['-R', '33:33', volume]);

/** Makes a directory that only root may enter. */
function makeSecret(name = 'secret'): void {
  mkdirSync(inVolume(name, 'tree'), { recursive: true, mode: 0o700 });
  writeFileSync(inVolume(name, 'k'), 'of root', { mode: 0o600 });
}
const secretAt = (name: string) => existsSync(inVolume(name, 'k')) && readFileSync(inVolume(name, 'k'), 'utf8');

/** Runs a program as www-data in the volume. */
function asUser(code: string): void {
  for (let at = volume; at !== '/'; at = dirname(at)) if (at !== volume) chmodSync(at, statSync(at).mode | 0o011);
  const run = ['--reuid=33', '--regid=33', '--clear-groups', 'sh', '-ec', `cd '${volume}'; ${code}`];
  expect(spawnSync('setpriv', run, { encoding: 'utf8' })).toMatchObject({ status: 0 });
}

/** Returns the lines of a list that moves the file of root, and makes a directory with the set-user-ID bit. */
function forgedList(id: string): string {
  const meta = { mode: 0o7777, uid: 0, gid: 0, mtime: '0' };
  const source = { identity: '1', base: '' };
  return [
    {
      format: 1,
      id,
      restore: ID,
      holds: 'before',
      at: AT,
      whole: false,
      incoming: { text: `${RESTORING}/tree` },
      source,
    },
    { type: 'move', path: { text: 'secret/k' }, out: true, in: true },
    { type: 'make', path: { text: 'made' }, meta },
  ]
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
}

describe('after a build that failed', () => {
  /** A file system with small inode numbers, which it uses again at once. */
  const image =
    (work: (mount: string) => Promise<void>, size = 40, options: string[] = []) =>
    async () => {
      const base = mkdtempSync(join(tmpdir(), 'lifeboat-identity-'));
      const mount = join(base, 'mount');
      mkdirSync(mount);
      execFileSync('truncate', ['-s', `${size}M`, join(base, 'image')]);
      execFileSync('mkfs.ext4', ['-q', '-O', '^has_journal', '-m', '0', ...options, join(base, 'image')]);
      execFileSync('mount', ['-o', 'loop', join(base, 'image'), mount]);
      try {
        await work(mount);
      } finally {
        execFileSync('umount', [mount]);
        rmSync(base, { recursive: true });
      }
    };
  const fail = async () => {
    const stored = await bench.store();
    const { destination } = bench;
    const get = () => Promise.reject(new Error('the network is down'));
    const broken = { name: '', put: destination.put, list: destination.list, delete: destination.delete, get };
    await expect(agent.build(stored, { destination: broken })).rejects.toThrow('the network is down');
  };
  const makeUploads = (recorded: (string | undefined)[]) => {
    const made = Array.from({ length: 4 }, (_, i) => `uploads-${i}`);
    for (const name of made) {
      mkdirSync(inVolume(name));
      writeFileSync(inVolume(name, 'photo'), 'precious');
      chownSync(inVolume(name), 33, 33);
    }
    const inodes = made.map((name) => String(lstatSync(inVolume(name)).ino));
    return { made, reused: inodes.some((inode) => recorded.some((one) => one?.split('@')[0] === inode)) };
  };
  const reuse = async (mount: string) => {
    fill(join(mount, 'volume'));
    const { takenBack, journal } = { takenBack: vi.fn(), journal: agent.journal };
    const stored = await bench.store();
    await expect(agent.build(stored, { packs: [], takenBack })).rejects.toThrow();
    expect(takenBack).toHaveBeenCalledTimes(1);
    expect(agent.areas()).toEqual([]);
    // The journal still names both areas, as if the agent had died before it could note the end.
    const { restoring, before } = journal[ID] ?? {};
    const { made, reused } = makeUploads([restoring, before]);
    expect(reused).toBe(true);
    expect(await agent.undo()).toBe('old');
    for (const name of made) expect(readFileSync(inVolume(name, 'photo'), 'utf8')).toBe('precious');
  };

  test('directories that reuse the inodes of its areas stay', image(reuse));

  test('directories stay on a file system without birth times too', image(reuse, 40, ['-I', '128']));

  test('the journal no longer names the areas', async () => {
    await fail();
    expect(agent.journal[ID]).toEqual({});
    expect(readdirSync(volume)).toEqual(['d', 'top']);
  });

  test(
    'a full volume is named, and old data can still be deleted',
    image(async (mount) => {
      fill(mount);
      for (let i = 0; i < 300; i++)
        for (const root of [bench.tree, volume]) writeFileSync(join(root, `a-rather-long-name-of-a-file-${i}`), root);
      await build();
      await agent.swap();
      chown();
      for (const size of ['9M', '64k', '1k'])
        spawnSync('sh', ['-c', `i=0; while head -c ${size} /dev/zero > '${mount}'/.z${size}$i; do i=$((i+1)); done`]);
      const full = { code: 'TREE_TARGET_FULL', hint: expect.stringContaining('--forget') };
      await expect(agent.back(SECOND)).rejects.toMatchObject(full);
      expect(readdirSync(inVolume(BEFORE)).sort()).toEqual(['list.ndjson', 'tree']);
      await agent.forget();
      expect(agent.areas()).toEqual([]);
    }, 8),
  );
});

describe('a program that is not root, after chown -R,', () => {
  beforeEach(async () => {
    makeSecret();
    await build('*');
    await agent.swap({ whole: false });
    chown();
    execFileSync('chown', ['-R', '0:0', inVolume('secret')]);
  });
  const expectUnchanged = async (known: unknown) => {
    expect(agent.records[ID]).toEqual(known);
    expect(secretAt('secret')).toBe('of root');
    expect(existsSync(inVolume('made'))).toBe(false);
  };

  test('that marks its own list as forgotten changes no record, and its list is not followed', async () => {
    const known = agent.records[ID];
    const list = forgedList(ID);
    asUser(`cd ${BEFORE}; cp list.ndjson good; touch forgotten; printf %s '${list}' > list.ndjson`);
    const refused = { code: 'TREE_TARGET_REFUSED', message: expect.stringContaining('its list of moves has changed') };
    for (const forgotten of [true, false]) {
      if (!forgotten) asUser(`rm ${BEFORE}/forgotten`);
      expect(await agent.list()).toMatchObject([{ refused: 'its list of moves has changed' }]);
      await expect(agent.back(SECOND, ID, { check: true })).rejects.toMatchObject(refused);
      await expect(agent.back(SECOND)).rejects.toMatchObject(refused);
      await expect(agent.forget()).rejects.toMatchObject(refused);
    }
    await expectUnchanged(known);
    asUser(`mv ${BEFORE}/good ${BEFORE}/list.ndjson; touch ${BEFORE}/forgotten`);
    // A file of that name alone means nothing, and is not deleted with the area.
    await agent.back(SECOND);
    expect(live()).toBe('old');
    expect(existsSync(inVolume(BEFORE, 'forgotten'))).toBe(true);
  });

  test('that replaces the list between two hashes is not followed', async () => {
    const list = inVolume(BEFORE, 'list.ndjson');
    const chownDirectory = vi.spyOn(Directory.prototype, 'chown').mockImplementationOnce(function (
      this: Directory,
      owner,
    ) {
      writeFileSync(list, forgedList(ID));
      chownDirectory.mockRestore();
      this.chown(owner);
    });
    await expect(agent.back(SECOND)).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    await expectUnchanged(agent.records[ID]);
  });

  test('that names another restore in the header takes no record over', async () => {
    writeFileSync(inVolume('d/f'), 'changed');
    await agent.build(await bench.store(), { id: SECOND, overwrite: true, select: selectByGlobs(['*']) });
    await agent.swap({ id: SECOND, whole: false });
    const records = { ...agent.records };
    chown();
    asUser(`sed -i '1s/"restore":"${ID}"/"restore":"${SECOND}"/' ${BEFORE}/list.ndjson; touch ${BEFORE}/forgotten`);
    expect(await agent.list()).toMatchObject([
      { id: ID, refused: expect.anything() },
      { id: SECOND, files: expect.anything() },
    ]);
    expect(agent.records).toEqual(records);
  });

  test('that makes the list a sparse file of 2 TB is refused at once', async () => {
    truncateSync(inVolume(BEFORE, 'list.ndjson'), 2 * 1024 ** 4);
    expect(await agent.list()).toMatchObject([{ refused: 'its list of moves has changed' }]);
  });

  test('a check changes nothing', async () => {
    execFileSync('touch', ['-d', '2001-01-01', volume, inVolume(BEFORE)]);
    const facts = () => execFileSync('find', [volume, '-printf', '%p %U %m %T@ %i\n'], { encoding: 'utf8' });
    const before = facts();
    await agent.back(SECOND, ID, { check: true });
    expect(facts()).toBe(before);
  });
});

describe('a program that owns the root of the volume', () => {
  /** Renames the area away and the directory of root to its name, as soon as the area is open. */
  function swapNames(name: string): void {
    const make = vi.spyOn(Directory.prototype, 'make').mockImplementationOnce(function (this: Directory, inside) {
      make.mockRestore();
      asUser(`mv ${name} away; mv secret ${name}`);
      return this.make(inside);
    });
  }

  test('and replaces the old data during a rollback does not get a directory of root emptied', async () => {
    makeSecret();
    writeFileSync(inVolume('secret/tree/protected'), 'of root');
    await build('top');
    await agent.swap({ whole: false });
    chownSync(volume, 33, 33);
    swapNames(BEFORE);
    await agent.back(SECOND);
    expect(live()).toBe('old');
    expect(secretAt(BEFORE)).toBe('of root');
    expect(readFileSync(inVolume(BEFORE, 'tree/protected'), 'utf8')).toBe('of root');
  });

  test('and forges an area of a recorded restore does not replace its record (root, and any user on FUSE)', async () => {
    vi.spyOn(fileSystem, 'remoteFileSystem').mockReturnValue('fuse');
    await build();
    await agent.swap();
    const known = agent.records[ID];
    const area = inVolume(`.lifeboat-before-${FORGED}`);
    makeSecret();
    mkdirSync(join(area, 'tree/secret'), { recursive: true, mode: 0o700 });
    writeFileSync(join(area, 'tree/secret/k'), 'forged');
    writeFileSync(join(area, 'list.ndjson'), forgedList(FORGED), { mode: 0o600 });
    expect(await agent.list()).toMatchObject([{ id: ID, files: 2 }]);
    expect(agent.records[ID]).toEqual(known);
    await agent.back(SECOND);
    expect(live()).toBe('old');
    expect(secretAt(`.lifeboat-before-${SECOND}/tree/secret`)).toBe('of root');
    expect(readdirSync(area)).toEqual(['list.ndjson', 'tree']);
  });

  test('does not get the area of another restore, or a directory of root, removed by recovery', async () => {
    await build('top');
    await agent.swap({ whole: false });
    const stored = await bench.store();
    writeFileSync(inVolume('d/f'), 'changed');
    await agent.build(stored, { id: SECOND, overwrite: true, select: selectByGlobs(['d/f']) });
    await agent.swap({ id: SECOND, whole: false });
    // The rollback is complete, and the agent dies before it records that.
    await agent.back(THIRD, SECOND);
    delete agent.journal[THIRD]?.ended;
    renameSync(inVolume(BEFORE), inVolume(`.lifeboat-before-${SECOND}`));
    expect(await agent.undo(THIRD)).toBe('new');
    expect(existsSync(inVolume(`.lifeboat-before-${SECOND}/tree/top`))).toBe(true);
    makeSecret(RESTORING);
    agent.journal[ID] = {};
    expect(await agent.undo()).toBe('old');
    expect(secretAt(RESTORING)).toBe('of root');
  });
});

test('files in the area that held the data are not deleted with it', async () => {
  await build('top');
  await agent.swap({ whole: false });
  writeFileSync(inVolume(BEFORE, 'tree/added'), 'by a program');
  const { left } = await agent.back(SECOND);
  expect(left).toEqual([BEFORE]);
  expect(readFileSync(inVolume(BEFORE, 'tree/added'), 'utf8')).toBe('by a program');
});

test('a deletion that stops before its last step is completed', async () => {
  await build();
  await agent.swap();
  const remove = vi.spyOn(Directory.prototype, 'removeDirectory').mockImplementation(function (this: Directory, name) {
    if (name === BEFORE) throw Object.assign(new Error('append-only'), { code: 'EPERM' });
    remove.getMockImplementation();
    execFileSync('rmdir', [join(this.realPath(), name)]);
  });
  await expect(agent.forget()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(readdirSync(inVolume(BEFORE))).toEqual([]);
  remove.mockRestore();
  expect(await agent.list()).toMatchObject([{ id: ID, files: 0 }]);
  await agent.forget();
  expect(agent.areas()).toEqual([]);
});

test('a merge keeps an owner and mode of the root that changed during the build', async () => {
  chmodSync(volume, 0o777);
  await build('top');
  chmodSync(volume, 0o700);
  chownSync(volume, 33, 33);
  await agent.swap({ whole: false });
  expect(lstatSync(volume)).toMatchObject({ uid: 33, mode: 0o40700 });
  await agent.back(SECOND);
  expect(lstatSync(volume)).toMatchObject({ uid: 33, mode: 0o40700 });
});

test('the check of a rollback finds what cannot move in', async () => {
  await build();
  await agent.swap();
  execFileSync('chattr', ['+i', inVolume(BEFORE, 'tree/top')]);
  try {
    const refused = { code: 'TREE_TARGET_REFUSED', message: expect.stringContaining('top cannot be moved') };
    await expect(agent.back(SECOND, ID, { check: true })).rejects.toMatchObject(refused);
  } finally {
    execFileSync('chattr', ['-i', inVolume(BEFORE, 'tree/top')]);
  }
});

test('a rollback that dies before its first move leaves no area, whatever the owner is by then', async () => {
  await build();
  await agent.swap();
  const made = createOwn(Directory.open(volume), `.lifeboat-before-${SECOND}`);
  made.close();
  expect(await agent.undo(SECOND)).toBe('old');
  const stop = () => {
    throw new Error('stop');
  };
  await expect(agent.back(THIRD, ID, { begun: stop })).rejects.toThrow('stop');
  expect(agent.areas()).toEqual([BEFORE]);
  expect(agent.journal[THIRD]).toMatchObject({ before: expect.anything() });
});

test('a record whose list is gone is named, and its files are not counted', async () => {
  await build();
  await agent.swap();
  rmSync(inVolume(BEFORE, 'list.ndjson'));
  const refused = 'its list of moves is gone';
  expect(await agent.list()).toEqual([{ kind: 'before', id: ID, files: 0, bytes: 0, refused }]);
  await expect(agent.back(SECOND)).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringContaining(refused),
  });
});
