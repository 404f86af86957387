import { fork } from 'node:child_process';
import path from 'node:path';

/** Runs a script of this directory in a process of its own, and returns the first message that it sends. */
export function forkStep<T>(script: string, args: readonly string[]): Promise<T> {
  const child = fork(path.join(import.meta.dirname, script), args);
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve(message as T));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`${script} ${args[0]} ended with ${code} and no result`)));
  });
}
