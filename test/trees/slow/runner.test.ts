import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import type { Engine } from '../../../src/docker/engine.ts';
import { createTreeStore } from '../../../src/trees/runner.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-tree-store-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const treeStore = (options: { stallTimeoutMs?: number; script?: string; destination?: Partial<Destination> } = {}) =>
  createTreeStore({
    engine: {} as Engine,
    log: silentLog,
    project: 'shop',
    repository: { destination: { name: 'test', ...options.destination } as Destination, keys: {} },
    agent: { id: 'a', imageId: 'i', mounts: [] },
    helperPlace: { directory: '/backups' },
    helperEnv: { GIVEN: 'yes' },
    helperSecrets: {},
    stallTimeoutMs: options.stallTimeoutMs ?? 10_000,
    processCommand: ['sh', '-c', options.script ?? ''],
  });
const measure = (
  store: ReturnType<typeof treeStore>,
  kind: 'here' | 'process',
  signal = new AbortController().signal,
) => store.measure({ root: directory, include: [], exclude: [], reach: { kind }, runId: 'run', signal });
const result = `{"type":"result","result":{"files":7,"bytes":8,"whole":true}}`;

test('a process gets the job, and its last line is the result', async () => {
  const file = path.join(directory, 'job');
  const store = treeStore({ script: `cat > ${file}; test "$GIVEN" = yes && echo '${result}'` });
  expect(await measure(store, 'process')).toEqual({ files: 7, bytes: 8, whole: true });
});

test.each([
  [
    'its own error',
    `echo '{"type":"error","error":{"code":"TREE_UNREADABLE","message":"/x cannot be read"}}'`,
    'TREE_UNREADABLE',
  ],
  ['no result', 'true', 'HELPER_FAILED'],
  ['a status', `echo '${result}'; echo no memory >&2; exit 3`, 'HELPER_FAILED'],
  ['a death', `echo '${result}'; kill -9 $$`, 'HELPER_FAILED'],
  ['noise', 'echo hello; exec sleep 60', 'HELPER_FAILED'],
])('a process that ends with %s', async (_, script, code) => {
  await expect(measure(treeStore({ script }), 'process')).rejects.toMatchObject({ code });
});

test('a process without output is ended; one that reports progress is not', async () => {
  const stuck = treeStore({ script: 'exec sleep 60', stallTimeoutMs: 100 });
  await expect(measure(stuck, 'process')).rejects.toMatchObject({ code: 'TREE_STALLED' });
  const line = '{"type":"progress","progress":{"phase":"storing","done":1}}';
  const slow = treeStore({
    script: `for i in $(seq 24); do echo '${line}'; sleep 0.5; done; echo '${result}'`,
    stallTimeoutMs: 10_000,
  });
  expect(await measure(slow, 'process')).toMatchObject({ files: 7 });
});

test('a process ends with the run', async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(new Error('stop now')), 50);
  await expect(measure(treeStore({ script: 'exec sleep 60' }), 'process', stop.signal)).rejects.toThrow('stop now');
});

test('work in this process that cannot be ended fails, and continues in the background', async () => {
  const indexPath = path.join(directory, 'index');
  const entry = '"mode":"0644","uid":0,"gid":0,"mtime":"0"';
  const pack = 'a'.repeat(32);
  writeFileSync(
    indexPath,
    `{"path":"","type":"directory",${entry}}\n{"path":"f","type":"file",${entry},"size":1,"sha256":"${'0'.repeat(64)}","pack":"${pack}","entry":"f"}\n`,
  );
  // A destination that never answers, and ignores the signal.
  const store = treeStore({ stallTimeoutMs: 100, destination: { get: () => new Promise(() => {}) } });
  const extracting = store.extract({
    indexPath,
    packs: [{ id: pack, key: 'k.zip', size: 200, sha256: '0'.repeat(64), plainSize: 200 }],
    target: path.join(directory, 'out'),
    select: [],
    spool: directory,
    reach: { kind: 'here' },
    runId: 'run',
    journal: path.join(directory, 'journal'),
    signal: new AbortController().signal,
    progress: () => undefined,
  });
  await expect(extracting).rejects.toMatchObject({ code: 'TREE_STALLED' });
});
