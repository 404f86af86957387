import type { Archiver } from 'archiver';

/** What the archive library needs to be kept from, done inside of it. Where that is not as it is known, all stays as it was. */
export function adjustLibrary(format: 'zip' | 'tar', archive: Archiver): void {
  if (format === 'zip') gatherPieces(archive);
  else hearEntries(archive);
}

/** The stream below an archive that makes a zip: it counts what is written to it. */
interface Engine {
  offset: number;
  write(chunk: Buffer | string, done?: unknown): boolean;
  end(...args: unknown[]): unknown;
}

const SMALL = 4096;
const GATHERED = 64 * 1024;

/**
 * Lets a zip be written in larger pieces. The library writes each header in twenty of a few bytes, and those of the whole directory at once: with
 * 100,000 entries that held 500 MiB.
 */
function gatherPieces(archive: Archiver): void {
  const engine = (archive as unknown as { _module?: { engine?: Engine } })._module?.engine;
  if (typeof engine?.offset !== 'number') return;
  const counting = engine.write;
  const [, plain] = prototypes(engine).flatMap((one) => (Object.hasOwn(one, 'write') ? [one.write] : []));
  if (!plain) return;
  const end = engine.end;
  let pieces: Buffer[] = [];
  let size = 0;
  const flush = () => {
    if (size > 0) plain.call(engine, Buffer.concat(pieces, size));
    pieces = [];
    size = 0;
  };
  engine.write = (chunk, done) => {
    const data = typeof chunk === 'string' ? Buffer.from(chunk) : chunk;
    if (data.length >= SMALL || done !== undefined) {
      flush();
      return counting.call(engine, data, done);
    }
    engine.offset += data.length;
    pieces.push(data);
    size += data.length;
    if (size >= GATHERED) flush();
    return true;
  };
  engine.end = (...args) => {
    flush();
    return end.apply(engine, args);
  };
}

function prototypes(object: object): Engine[] {
  const next = Object.getPrototypeOf(object) as Engine | null;
  return next ? [next, ...prototypes(next)] : [];
}

/** What a tar writes an entry to. */
interface TarEngine {
  entry?(...args: unknown[]): { on(event: 'error', listener: () => void): unknown };
}

/**
 * Lets a tar be given up in the middle of an entry: the library hears of no error of the stream that it writes an entry to, and such an
 * error would end the process. The archive's own stream tells it too.
 */
function hearEntries(archive: Archiver): void {
  const engine = (archive as unknown as { _module?: { engine?: TarEngine } })._module?.engine;
  const entry = engine?.entry;
  if (!engine || !entry) return;
  engine.entry = (...args) => {
    const sink = entry.apply(engine, args);
    sink.on('error', () => undefined);
    return sink;
  };
}
