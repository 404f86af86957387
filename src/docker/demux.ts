import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { LifeboatError, toLifeboatError } from '../errors.ts';

/** Part of one of a command's two outputs. */
export interface OutputChunk {
  stream: 'stdout' | 'stderr';
  data: Buffer;
}

const HEADER = 8;
/** The engine writes frames of at most some 100 KiB; a larger length means that the stream is not what it should be. */
const MAX_FRAME = 64 * 1024 * 1024;

/**
 * Takes the engine's multiplexed stream apart. Each frame has a header of eight bytes: the stream (0 stdin, 1 stdout,
 * 2 stderr), three zeros, and the payload's length, big-endian (Docker Engine API, "Attach to a container: stream
 * format"). Payloads are passed on as they come, so memory does not depend on the length a frame claims.
 * Throws ENGINE_PROTOCOL for a header that cannot be right and for a stream that ends inside a frame.
 */
export async function* frames(source: AsyncIterable<Buffer>): AsyncGenerator<OutputChunk> {
  const header = Buffer.alloc(HEADER);
  let have = 0;
  let left = 0;
  let stream: OutputChunk['stream'] = 'stdout';
  for await (const chunk of source) {
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
  if (left > 0 || have > 0) {
    throw new LifeboatError(
      'ENGINE_PROTOCOL',
      `the engine's stream ended inside a frame, ${left || HEADER - have} bytes early`,
    );
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
 * Writes both outputs of a multiplexed stream to their sinks, at the pace of the slower, until the stream ends. Ends
 * neither sink. Rejects with ENGINE_PROTOCOL (see {@link frames}), with ENGINE_UNREACHABLE when the connection breaks,
 * or with the sink's error when a sink closes early.
 */
export async function demux(source: Readable, sinks: { stdout: Writable; stderr: Writable }): Promise<void> {
  try {
    for await (const { stream, data } of frames(source)) await write(sinks[stream], data);
  } catch (error) {
    throw toLifeboatError(error, 'ENGINE_UNREACHABLE');
  }
}

async function write(sink: Writable, data: Buffer): Promise<void> {
  if (sink.destroyed || sink.writableEnded) {
    throw sink.errored ?? new LifeboatError('INTERRUPTED', 'the reader of a command’s output closed it early');
  }
  if (sink.write(data)) return;
  const waiting = new AbortController();
  try {
    await Promise.race([
      once(sink, 'drain', { signal: waiting.signal }),
      once(sink, 'close', { signal: waiting.signal }),
    ]);
  } finally {
    waiting.abort();
  }
}
