import { Worker } from 'node:worker_threads';
import type { Stored } from './destination.ts';
import type { HashAnswer } from './hash-worker.ts';

const IDLE_MS = 5000;
const WORKER_MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };

/** A file as it was read. `direct`: from the disk, and not from the page cache of the system. */
type Hashed = Stored & { direct: boolean };

interface Waiting {
  resolve(hashed: Hashed): void;
  reject(error: Error): void;
  alive?: (() => void) | undefined;
}

let worker: Worker | undefined;
let idle: NodeJS.Timeout | undefined;
const waiting: Waiting[] = [];

/**
 * Reads a file back from the disk and hashes it, in a worker thread: the next object can be stored meanwhile, and a
 * disk that hangs does not block this thread.
 *
 * @param alive called repeatedly while a large file is read
 * @throws the system error
 */
export function hashFile(file: string, alive?: () => void): Promise<Hashed> {
  return new Promise((resolve, reject) => {
    clearTimeout(idle);
    worker ??= start();
    worker.ref();
    waiting.push({ resolve, reject, alive });
    worker.postMessage(file);
  });
}

function start(): Worker {
  // The bundled program has its worker in the same directory.
  const name = import.meta.url.endsWith('.ts') ? './hash-worker.ts' : './hash-worker.js';
  const started = new Worker(new URL(name, import.meta.url), { resourceLimits: WORKER_MEMORY });
  let failure = new Error('the hashing thread ended early');
  started.on('message', (answer: HashAnswer) => {
    if ('alive' in answer) return waiting[0]?.alive?.();
    const next = waiting.shift();
    if ('sha256' in answer) next?.resolve(answer);
    else next?.reject(Object.assign(new Error(answer.message), { code: answer.code }));
    if (waiting.length === 0) rest(started);
  });
  started.on('error', (error: Error) => {
    failure = error;
  });
  started.on('exit', () => {
    if (worker === started) worker = undefined;
    else return;
    for (const next of waiting.splice(0)) next.reject(failure);
  });
  return started;
}

/** Ends the thread after a while, because an idle thread uses memory. An idle thread never keeps the process alive. */
function rest(started: Worker): void {
  started.unref();
  idle = setTimeout(() => {
    worker = undefined;
    started.terminate();
  }, IDLE_MS).unref();
}
