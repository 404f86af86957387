import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { onAbort } from '../../base/abort.ts';

/** What {@link SqliteProcess} can be asked. Paths have one character for each byte. */
export type SqliteRequest =
  /** begin to read the live database there */
  | { kind: 'hold'; path: string }
  | { kind: 'release' }
  /** make a copy whole by itself */
  | { kind: 'settle'; path: string }
  | { kind: 'check'; path: string };

/** `code`: SQLite's primary result code (https://www.sqlite.org/rescode.html); none when no answer came in time. */
export type SqliteAnswer =
  | { kind: 'done' }
  | { kind: 'checked'; problems: string[] }
  | { kind: 'failed'; code?: number; message: string };

const TICK_MS = 1000;

/** How an answer is waited for. */
interface Patience {
  /** milliseconds */
  limitMs: number;
  /** called every second, so that a long check does not look like one that hangs */
  alive(): void;
  signal?: AbortSignal | undefined;
}

/** The process that opens databases (sqlite-program.ts): started when it is first asked, and again after it was ended. */
export class SqliteProcess {
  private running: { child: ChildProcess; lines: Interface } | undefined;

  /** Asks one thing; calls must not overlap. A process that does not answer in time is ended, and holds nothing then. */
  async ask(request: SqliteRequest, { limitMs, alive, signal }: Patience): Promise<SqliteAnswer> {
    signal?.throwIfAborted();
    const { child, lines } = this.start();
    return new Promise((resolve) => {
      const settle = (answer: SqliteAnswer, stop: boolean) => {
        forget();
        clearTimeout(limit);
        clearInterval(ticking);
        lines.removeAllListeners('line');
        child.removeListener('close', onClose);
        if (stop) this.close();
        resolve(answer);
      };
      const missing = (message: string) => settle({ kind: 'failed', message }, true);
      const onClose = () => missing('SQLite ended while it read the database');
      const limit = setTimeout(() => missing(`not done within ${Math.round(limitMs / 1000)} s`), limitMs);
      const ticking = setInterval(alive, TICK_MS);
      child.once('close', onClose);
      lines.once('line', (line) => settle(JSON.parse(line) as SqliteAnswer, false));
      const forget = onAbort(signal, () => missing('interrupted'));
      child.stdin?.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Ends the process, and with it whatever it holds. */
  close(): void {
    this.running?.child.kill('SIGKILL');
    this.running?.lines.close();
    this.running = undefined;
  }

  private start() {
    if (this.running) return this.running;
    // The compiled program has the compiled one beside it.
    const file = import.meta.url.endsWith('.ts') ? './sqlite-program.ts' : './sqlite-program.js';
    const program = new URL(file, import.meta.url).pathname;
    const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--max-old-space-size=64', program];
    // The kernel ends it together with this process. It needs no setting of ours, and gets none.
    const env = { PATH: process.env.PATH };
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...node], { stdio: ['pipe', 'pipe', 'ignore'], env });
    child.on('error', () => undefined);
    child.stdin.on('error', () => undefined);
    this.running = { child, lines: createInterface({ input: child.stdout }) };
    return this.running;
  }
}
