import type { Archiver } from 'archiver';

/** Works around problems of the archive library in its internals. If these are not as expected, nothing is changed. */
export function adjustLibrary(format: 'zip' | 'tar', archive: Archiver): void {
  if (format === 'zip') gatherPieces(archive);
  else hearEntries(archive);
}

/** The stream of the library that writes a zip. It counts the bytes written to it. */
interface Engine {
  offset: number;
  write(chunk: Buffer | string, done?: unknown): boolean;
  end(...args: unknown[]): unknown;
}

const SMALL = 4096;
const GATHERED = 64 * 1024;

/**
 * Makes a zip write larger pieces. The library writes each header in twenty pieces of a few bytes, and the headers of
 * the whole directory at once. With 100,000 entries, that took 500 MiB.
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

/** The part of the library that writes the entries of a tar. */
interface TarEngine {
  entry?(...args: unknown[]): { on(event: 'error', listener: () => void): unknown };
}

/**
 * Makes it possible to abandon a tar in the middle of an entry. The library does not handle errors of the entry's
 * stream, so such an error would end the process. The stream of the archive reports the same error.
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
