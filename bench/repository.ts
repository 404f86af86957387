import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { encodeIndexEntry, type IndexEntry } from '../src/store/filesystem/index-file.ts';
import { encodeManifest, manifestHash, manifestKey, type ObjectRef } from '../src/store/objects/manifest.ts';
import { encodePackList } from '../src/store/objects/pack-list.ts';
import type { PackRef } from '../src/store/packs/pack-stream.ts';
import { forkStep } from './fork-step.ts';
import type { StepResult } from './repository-step.ts';
import type { BenchOptions } from './stack.ts';

/** A snapshot needs the packs of this many snapshots before it. */
const SHARED = 100;
const SOURCE = 'web.media';
const ROOT: IndexEntry = { path: '', type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: 0n };

/** The steps in their order: later ones use what earlier ones cached, as on an agent. */
const STEPS = ['snapshots', 'snapshots again', 'check', 'prune --dry-run', 'prune --dry-run again', 'nothing new'];

/**
 * Lists, checks and prunes a large generated repository in a local directory: 1,000 snapshots over 100,000 packs. Each
 * step is a process of its own, without an engine.
 */
export async function benchRepository({ small }: Pick<BenchOptions, 'small'>): Promise<string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-bench-'));
  const size = small ? { snapshots: 100, packs: 10_000 } : { snapshots: 1000, packs: 100_000 };
  try {
    process.stderr.write('making objects\n');
    generate(path.join(directory, 'backups'), size);
    const rows: string[] = [];
    for (const step of STEPS) {
      process.stderr.write(`${step}\n`);
      const { seconds, peakMiB, requests } = await forkStep<StepResult>('repository-step.ts', [step, directory]);
      const { list, get, put } = requests;
      rows.push(`| ${step} | ${seconds.toFixed(2)} | ${peakMiB.toFixed(0)} | ${list} | ${get} | ${put} |`);
    }
    return [
      `${size.snapshots} snapshots over ${size.packs} packs. A LIST counts once for each 1,000 objects.`,
      '',
      '| step | s | peak MiB | LIST | GET | PUT |',
      '|---|---|---|---|---|---|',
      ...rows,
    ].join('\n');
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Writes the objects directly: to sync and read back each of them would take an hour. */
function generate(root: string, { snapshots, packs }: { snapshots: number; packs: number }): void {
  const put = (key: string, bytes: Buffer): ObjectRef => {
    const file = path.join(root, key);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, bytes);
    return { key, size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
  };
  put('lifeboat.json', Buffer.from('{"created":"2026-11-20T02:59:58.112Z","format":1,"id":"bench"}\n'));
  const content = Buffer.from('x');
  const all: PackRef[] = [];
  let previous: string | null = null;
  for (let n = 1; n <= snapshots; n++) {
    for (let i = 0; i < packs / snapshots; i++) {
      const id = createHash('md5').update(`${n} ${i}`).digest('hex');
      const ref = put(`shop/packs/${SOURCE}/${id.slice(0, 2)}/${id}.zip`, content);
      // Content of one byte would make all hashes equal, and the lists small.
      all.push({ ...ref, sha256: createHash('sha256').update(id).digest('hex'), id, plainSize: 1 });
    }
    const time = new Date(Date.now() - (snapshots - n + 1) * 3_600_000).toISOString();
    const id = `${time.slice(0, 19).replaceAll(/[-:]/g, '')}Z-${n.toString(16).padStart(6, '0')}`;
    const needed = all.slice((-SHARED * packs) / snapshots);
    const name = `shop/snapshots/${id}/${SOURCE}`;
    const index = put(`${name}.index.ndjson.zst`, zstdCompressSync(encodeIndexEntry(ROOT)));
    const list = put(`${name}.packs.ndjson.zst`, zstdCompressSync(encodePackList(needed)));
    const counts = { files: 1, bytes: 1, newBytes: 1, newFiles: 1, summary: '', warnings: [], skipped: {} };
    const source = {
      kind: 'volume',
      status: 'ok',
      index,
      packs: { ...list, count: needed.length },
      ...counts,
    } as const;
    const bytes = encodeManifest({
      ...{ format: 1, id, project: 'shop', sequence: n, previous, start: time, end: time, trigger: 'schedule' },
      ...{ agentVersion: '0', status: 'ok', sources: { [SOURCE]: source } },
    });
    put(manifestKey('shop', id), bytes);
    previous = manifestHash(bytes);
  }
}
