import { AsyncLocalStorage } from 'node:async_hooks';
import { pino } from 'pino';
import { createRepeats } from './log-repeats.ts';
import { redact } from './redact.ts';

/** The log levels of `LOG_LEVEL`. */
const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The interface for logging: a message, then fields. */
export interface Log {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

/** A run in progress. Its id is known soon after it has begun. */
interface Scope {
  run: string | undefined;
}

const current = new AsyncLocalStorage<Scope>();
/** what belongs to no run: the daemon between runs, or a command that is one run */
const outside: Scope = { run: undefined };

/** Does work as one run: every line of the log that it causes carries the id that {@link nameRun} gives. */
export function asRun<T>(work: () => T): T {
  const { run } = current.getStore() ?? outside;
  return current.run({ run }, work);
}

/** Gives the present run its id. Outside of {@link asRun}, the process is the run. */
export function nameRun(id: string): void {
  (current.getStore() ?? outside).run = id;
}

/** Options of {@link createLog}. */
interface LogOptions {
  level: LogLevel;
  /** by `performance.now()`, milliseconds */
  now?: () => number;
}

/**
 * Creates a log of JSON lines to stderr, because stdout belongs to results. Each line has the id of its run. A line
 * that says again what the last line about its subject said is left out, for an hour. {@link redact} sees each line
 * after serialisation, so it also hides secrets in nested error messages.
 */
export function createLog(
  { level, now = () => performance.now() }: LogOptions,
  write: (line: string) => void = (line) => process.stderr.write(line),
): Log {
  const logger = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: (line: string) => write(redact(line)) },
  );
  const repeats = createRepeats(now);
  const at = (name: 'debug' | 'info' | 'warn' | 'error') => (message: string, fields?: Record<string, unknown>) => {
    if (!logger.isLevelEnabled(name)) return;
    const { run } = current.getStore() ?? outside;
    const all = { ...(run === undefined ? {} : { run }), ...fields };
    const repeated = repeats.note(name, message, all);
    if (repeated !== undefined) logger[name]({ ...all, ...(repeated > 0 ? { repeated } : {}) }, message);
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Renders a line of the log for a terminal: `warning: a notifier failed: … (NOTIFY_FAILED)`. */
export function readable(line: string): string {
  const { level, msg, message, code } = JSON.parse(line) as Record<'level' | 'msg' | 'message' | 'code', string>;
  const more = message === undefined || message === msg ? '' : `: ${message}`;
  return `${level === 'warn' ? 'warning' : level}: ${msg}${more}${code === undefined ? '' : ` (${code})`}\n`;
}

/** The values of `LOG_FORMAT`. */
export const LOG_FORMATS = ['json', 'text'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/**
 * Renders a line of the log as text, with its time and all fields:
 * `2026-11-20T03:00:41.000Z error: db.postgres: failed: no answer (PG_UNREACHABLE) run=… hint="…"`.
 */
export function textLine(line: string): string {
  const { level, msg, message, code, time, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const more = Object.entries(fields).map(([name, value]) => ` ${name}=${fieldText(value)}`);
  return `${String(time)} ${readable(line).trimEnd().replace(/\s+/g, ' ')}${more.join('')}\n`;
}

function fieldText(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return typeof value !== 'string' || /^[\w.:/+-]+$/.test(text) ? text : JSON.stringify(text);
}

/** Wraps a log. The wrapper also keeps the last `limit` lines as plain text, for the body of pings and messages. */
export function withTail(log: Log, limit = 100): { log: Log; tail(): string[] } {
  const lines: string[] = [];
  const keep = (name: keyof Log) => (message: string, fields?: Record<string, unknown>) => {
    log[name](message, fields);
    if (name === 'debug') return;
    const extra = fields && Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : '';
    lines.push(redact(`${new Date().toISOString()} ${name} ${message}${extra}`));
    if (lines.length > limit) lines.shift();
  };
  return {
    log: { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') },
    tail: () => [...lines],
  };
}

/** A log that discards everything. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} };
