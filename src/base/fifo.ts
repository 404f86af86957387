import { close, constants, fstat, open } from 'node:fs';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';

/** bytes of content that wait for the reader */
const BUFFER = 256 * 1024;

/** The reading end of a FIFO. */
interface FifoReader {
  /** Ends when the last writer has closed the FIFO. Destroying it closes the FIFO. */
  readable: Readable;
  /** Ends the stream also if nobody has opened the FIFO to write. Call it when no writer can follow. */
  finish(): Promise<void>;
}

/**
 * Opens a FIFO to read, without waiting for a writer (fifo(7)). The path is untrusted: a link, or something else than a
 * FIFO, is refused.
 *
 * @throws Error of the system, or one that says that it is no FIFO
 */
async function openFifo(file: string): Promise<FifoReader> {
  const fd = await promisify(open)(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  if (!(await promisify(fstat)(fd)).isFIFO()) {
    await promisify(close)(fd);
    throw new Error(`${file} is not a FIFO`);
  }
  const readable = new Socket({ fd, readable: true, writable: false });
  return {
    readable,
    async finish() {
      if (readable.destroyed || readable.readableEnded) return;
      // The system reports the end of a FIFO only after a writer has closed it. The path may name another file by now.
      const writer = await promisify(open)(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK).catch(
        () => undefined,
      );
      if (writer !== undefined) await promisify(close)(writer);
    },
  };
}

/** A program that creates a FIFO, writes a line to its stdout, and then writes into the FIFO. */
interface FifoWriter {
  stdout: Readable;
  /** resolves when the program has succeeded */
  done: Promise<unknown>;
}

/**
 * Passes what a program writes into a FIFO to `read`. Resolves to the result of `read` only if the program succeeds. If
 * the program fails, the stream fails with the same error, so that its end is never taken for the end of the content.
 *
 * @throws the error of the program, or of `read`
 */
export async function readFifo<T>(
  program: FifoWriter,
  file: string,
  read: (content: Readable) => Promise<T>,
): Promise<T> {
  // Resolves with the first line, or when the output ends. The rest must be read, too.
  await Promise.race([new Promise((resolve) => program.stdout.once('data', resolve)), program.done]);
  program.stdout.resume();
  const { readable, finish } = await openFifo(file).catch(async (error: unknown) => {
    program.stdout.destroy();
    await program.done;
    throw error;
  });
  const ended = program.done.then(finish, (error: Error) => void readable.destroy(error));
  async function* content(): AsyncGenerator<Buffer> {
    yield* readable as AsyncIterable<Buffer>;
    await program.done;
  }
  try {
    return await read(Readable.from(content(), { objectMode: false, highWaterMark: BUFFER }));
  } catch (error) {
    // The program fails because nobody reads any more, or it has failed before, and says why.
    const failed = readable.errored;
    readable.destroy();
    program.stdout.destroy();
    throw failed ?? error;
  } finally {
    await ended;
  }
}
