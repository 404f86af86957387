import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Stored } from './destination.ts';
import type { HashAnswer } from './hash-worker.ts';

/** Files up to that many bytes are not worth a message to another thread. */
const INLINE_SIZE = 4 * 1024 * 1024;
const IDLE_MS = 5000;
const WORKER_MEMORY = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };

interface Waiting {
  resolve(stored: Stored): void;
  reject(error: Error): void;
  alive?: (() => void) | undefined;
}

let worker: Worker | undefined;
let idle: NodeJS.Timeout | undefined;
const waiting: Waiting[] = [];

/**
 * Reads a file back and hashes it, a large one in a worker thread, so that reading back what was stored runs beside
 * storing the next object. `size` is what the file should have, in bytes; `alive` is called
 * while a large one is read. Rejects with the system error.
 */
export async function hashFile(file: string, size: number, alive?: () => void): Promise<Stored> {
  if (size <= INLINE_SIZE) {
    const content = await readFile(file);
    return { size: content.length, sha256: createHash('sha256').update(content).digest('hex') };
  }
  return new Promise((resolve, reject) => {
    clearTimeout(idle);
    worker ??= start();
    worker.ref();
    waiting.push({ resolve, reject, alive });
    worker.postMessage(file);
  });
}

function start(): Worker {
  // The compiled program has the compiled worker beside it.
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

/** An idle thread costs memory: it is ended after a while, and never keeps the process alive. */
function rest(started: Worker): void {
  started.unref();
  idle = setTimeout(() => {
    worker = undefined;
    started.terminate();
  }, IDLE_MS).unref();
}
