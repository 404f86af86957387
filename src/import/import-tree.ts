import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import type { PlannedSource } from '../plan/model.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import type { CaptureContext, CapturedTree, Source } from '../sources/source.ts';
import type { ArchiveMember } from '../store/archive/archive-member.ts';
import { unreadable } from '../store/archive/import-errors.ts';
import { type Inside, openArchive } from '../store/archive/open-archive.ts';
import { type RootMeta, unpack } from '../store/archive/unpack.ts';
import { databasesOf } from './import-databases.ts';
import { type ImportDumpDeps, importDump } from './import-dump.ts';
import { leadingDirectoryWarnings, type PathLookup } from './leading-directories.ts';

const FILES =
  'For files, import a tar or a zip. It may be compressed with gzip or zstd, and encrypted with age or gpg.';

/** The input of an import. */
interface ImportInput extends ImportDumpDeps {
  /** absolute path, for random access; absent for stdin */
  file?: string;
  stream: Readable;
  strip: number;
  /** for a dump that does not name its database */
  database?: string;
  keys: SealKeys;
  root(): Promise<RootMeta | undefined>;
  knownOf: PathLookup;
}

/** Makes a source whose tree comes from an archive or a dump. Its container is not touched. */
export function sourceOfArchive(planned: PlannedSource, input: ImportInput): Source {
  return {
    name: planned.name,
    kind: planned.kind,
    async capture<T>(context: CaptureContext, store: (tree: CapturedTree) => Promise<T>): Promise<T> {
      const spooled = path.join(path.dirname(context.spool), `import-${randomUUID()}.zip`);
      const { file, stream, keys } = input;
      try {
        const inside = await openArchive({ ...(file === undefined ? {} : { file }), stream, keys, spooled });
        return await store(await makeTree(inside, planned, input, context));
      } finally {
        stream.destroy();
        await rm(spooled, { force: true });
      }
    },
  };
}

async function makeTree(
  inside: Inside,
  planned: PlannedSource,
  input: ImportInput,
  context: CaptureContext,
): Promise<CapturedTree> {
  if (!('members' in inside)) {
    const { form, stream } = inside;
    const { database } = input;
    const dump = { form, stream, ...(database === undefined ? {} : { database }) };
    if (planned.kind === 'postgres') return await importDump(input, planned, dump, context);
    stream.destroy();
    const what = form === 'custom' ? 'a dump of pg_dump --format=custom' : 'neither a tar nor a zip';
    throw unreadable(`the file is ${what}`, undefined, FILES);
  }
  const files = await unpackFiles(inside.members, input, context);
  if (planned.kind === 'postgres') return await databasesOf(context.spool);
  const { strip, knownOf } = input;
  const leading = await leadingDirectoryWarnings(context.spool, { source: planned.name, strip, knownOf });
  return { ...files, warnings: [...leading, ...files.warnings] };
}

async function unpackFiles(
  members: AsyncIterable<ArchiveMember>,
  { strip, root }: ImportInput,
  context: CaptureContext,
): Promise<CapturedTree> {
  const last = await root();
  const { signal, spool, progress } = context;
  const unpacked = await unpack({
    ...{ members, target: spool, strip, signal },
    ...(last ? { root: last } : {}),
    progress: ({ done, files }) => progress({ phase: 'unpacking', done, files }),
  });
  return {
    ...{ root: spool, reach: { kind: 'here' }, include: [], exclude: [] },
    facts: { kind: 'import' },
    summary: '',
    warnings: unpacked.warnings,
  };
}
