import { lstat } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { type Hashed, hashHere } from './hash-here.ts';
import type { HashAnswer } from './hash-worker.ts';

const IDLE_MS = 5000;
const WORKER_MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };

/**
 * The largest file that this thread hashes, bytes. That takes 5 ms of its time. A thread takes 100 ms of processor time
 * to start, and most runs store no larger object.
 */
const HERE = 4 * 1024 * 1024;

interface Waiting {
  resolve(hashed: Hashed): void;
  reject(error: Error): void;
  alive?: (() => void) | undefined;
}

let worker: Worker | undefined;
let idle: NodeJS.Timeout | undefined;
const waiting: Waiting[] = [];

/**
 * Reads a file back from the disk and hashes it, a large one in a worker thread. A disk that hangs does not block this
 * thread.
 *
 * @param alive called repeatedly while a large file is read
 * @throws the system error
 */
export async function hashFile(file: string, alive?: () => void): Promise<Hashed> {
  const { size } = await lstat(file);
  return size <= HERE ? hashHere(file) : hashInWorker(file, alive);
}

/** Like {@link hashHere}, but meanwhile, this thread stores the next object. */
function hashInWorker(file: string, alive: (() => void) | undefined): Promise<Hashed> {
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
