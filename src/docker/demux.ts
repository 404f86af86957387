import { finished, type Writable } from 'node:stream';
import { LifeboatError, toLifeboatError } from '../base/errors.ts';

/** A part of a command's stdout or stderr. */
interface OutputChunk {
  stream: 'stdout' | 'stderr';
  data: Buffer;
}

const HEADER = 8;
/** The engine writes frames of about 100 KiB at most. A much larger length means that the stream is invalid. */
const MAX_FRAME = 64 * 1024 * 1024;

/**
 * Splits the engine's multiplexed stream into its parts. Each frame has a header of eight bytes: the stream (0 stdin, 1
 * stdout, 2 stderr), three zeros, and the payload's length, big-endian (Docker Engine API, "Attach to a container:
 * stream format"). Passes payloads on as they arrive, so memory does not depend on the length in a header.
 *
 * @throws ENGINE_PROTOCOL for an invalid header, and for a stream that ends inside a frame; ENGINE_UNREACHABLE if the
 * connection breaks
 */
export async function* frames(source: AsyncIterable<Buffer>): AsyncGenerator<OutputChunk> {
  const header = Buffer.alloc(HEADER);
  let have = 0;
  let left = 0;
  let stream: OutputChunk['stream'] = 'stdout';
  for await (const chunk of coded(source)) {
    let at = 0;
    while (at < chunk.length) {
      if (left > 0) {
        const data = chunk.subarray(at, at + left);
        at += data.length;
        left -= data.length;
        yield { stream, data };
        continue;
      }
      const copied = chunk.copy(header, have, at, at + HEADER - have);
      at += copied;
      have += copied;
      if (have < HEADER) break;
      have = 0;
      ({ stream, length: left } = parseHeader(header));
    }
  }
  const missing = left || (have > 0 ? HEADER - have : 0);
  if (missing > 0) {
    throw new LifeboatError('ENGINE_PROTOCOL', `the engine's stream ended inside a frame, ${missing} B early`);
  }
}

async function* coded(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  try {
    yield* source;
  } catch (error) {
    throw toLifeboatError(error, 'ENGINE_UNREACHABLE');
  }
}

function parseHeader(header: Buffer): { stream: OutputChunk['stream']; length: number } {
  const type = header[0] ?? 0;
  const length = header.readUInt32BE(4);
  const zeros = header[1] === 0 && header[2] === 0 && header[3] === 0;
  if (type > 2 || !zeros || length > MAX_FRAME) {
    throw new LifeboatError(
      'ENGINE_PROTOCOL',
      `the engine's stream has a frame that cannot be right: ${header.toString('hex')}`,
    );
  }
  return { stream: type === 2 ? 'stderr' : 'stdout', length };
}

/**
 * Writes a chunk, and waits until the sink accepts more. Rejects with the sink's error, or with INTERRUPTED if it is
 * closed.
 */
export async function writeTo(sink: Writable, data: Buffer): Promise<void> {
  if (sink.destroyed) throw sink.errored ?? closedEarly();
  if (sink.write(data)) return;
  await new Promise<void>((resolve, reject) => {
    const finish = (then: () => void) => {
      stopWatching();
      sink.off('drain', onDrain);
      then();
    };
    const onDrain = () => finish(resolve);
    const stopWatching = finished(sink, { readable: false }, (error) => finish(() => reject(error ?? closedEarly())));
    sink.once('drain', onDrain);
  });
}

function closedEarly(): LifeboatError {
  return new LifeboatError('INTERRUPTED', 'the reader of a command’s output closed it early');
}
