import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { onAbort } from '../../base/abort.ts';

/** The requests to {@link SqliteProcess}. Paths have one character per byte. */
export type SqliteRequest =
  /** starts a read transaction on the live database */
  | { kind: 'hold'; path: string }
  | { kind: 'release' }
  /** applies the log or journal of a copy, so that its main file is complete */
  | { kind: 'recover'; path: string }
  | { kind: 'check'; path: string };

/** `code`: SQLite's primary result code (https://www.sqlite.org/rescode.html); absent if no answer came in time. */
export type SqliteAnswer =
  | { kind: 'done' }
  | { kind: 'checked'; problems: string[] }
  | { kind: 'failed'; code?: number; message: string };

const TICK_MS = 1000;

/** The longest wait for an answer. */
interface Patience {
  /** time limit, milliseconds */
  limitMs: number;
  /** called every second, to tell a long check from one that hangs */
  alive(): void;
  signal?: AbortSignal | undefined;
}

/**
 * The process that opens databases (sqlite-program.ts). It starts on the first request, and again after it was ended.
 */
export class SqliteProcess {
  private running: { child: ChildProcess; lines: Interface } | undefined;

  /**
   * Sends a request; calls must not overlap. A process that does not answer in time is ended, which releases its locks.
   */
  async ask(request: SqliteRequest, { limitMs, alive, signal }: Patience): Promise<SqliteAnswer> {
    signal?.throwIfAborted();
    const { child, lines } = this.start();
    return new Promise((resolve) => {
      const finish = (answer: SqliteAnswer, stop: boolean) => {
        forget();
        clearTimeout(limit);
        clearInterval(ticking);
        lines.removeAllListeners('line');
        child.removeListener('close', onClose);
        if (stop) this.close();
        resolve(answer);
      };
      const missing = (message: string) => finish({ kind: 'failed', message }, true);
      const onClose = () => missing('SQLite ended while it read the database');
      const limit = setTimeout(() => missing(`not done within ${Math.round(limitMs / 1000)} s`), limitMs);
      const ticking = setInterval(alive, TICK_MS);
      child.once('close', onClose);
      lines.once('line', (line) => finish(JSON.parse(line) as SqliteAnswer, false));
      const forget = onAbort(signal, () => missing('interrupted'));
      child.stdin?.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Ends the process, which releases its locks. */
  close(): void {
    this.running?.child.kill('SIGKILL');
    this.running?.lines.close();
    this.running = undefined;
  }

  private start() {
    if (this.running) return this.running;
    // The compiled program is next to this compiled module.
    const file = import.meta.url.endsWith('.ts') ? './sqlite-program.ts' : './sqlite-program.js';
    const program = new URL(file, import.meta.url).pathname;
    const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--max-old-space-size=64', program];
    // The kernel ends the process together with this one. It needs none of Lifeboat's settings, so it gets none.
    const env = { PATH: process.env.PATH };
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...node], { stdio: ['pipe', 'pipe', 'ignore'], env });
    child.on('error', () => undefined);
    child.stdin.on('error', () => undefined);
    this.running = { child, lines: createInterface({ input: child.stdout }) };
    return this.running;
  }
}
