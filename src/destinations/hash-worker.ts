import { parentPort } from 'node:worker_threads';
import { type Hashed, hashHere } from './hash-here.ts';

/**
 * The size and hash of a file, and whether its bytes came from the disk, or why it could not be read. `alive` messages
 * come before, while the file is being read.
 */
export type HashAnswer = { alive: true } | Hashed | { code: string | undefined; message: string };

const answer = (message: HashAnswer) => parentPort?.postMessage(message);

// Reads wait for each other, so the answers come in the order of the requests.
parentPort?.on('message', (file: string) => {
  hashHere(file, () => answer({ alive: true })).then(answer, ({ code, message }: NodeJS.ErrnoException) =>
    answer({ code, message }),
  );
});
