import type { App } from '../app/app.ts';
import type { ErrorInfo } from '../base/errors.ts';
import { redact, redactDeep } from '../base/redact.ts';
import { asDocument } from '../report/json-document.ts';
import type { Paint } from '../report/paint.ts';
import type { Documents } from './json/documents.ts';

/** Where a command reads and writes. */
export interface Io {
  env: NodeJS.ProcessEnv;
  stdin: NodeJS.ReadStream;
  /** for binary output: an archive */
  stdout: NodeJS.WriteStream;
  /** results */
  out(text: string): void;
  /** progress, logs and errors */
  err(text: string): void;
  /** where progress is drawn */
  terminal: NodeJS.WriteStream;
  paint: Paint;
  /** aborts with INTERRUPTED on SIGTERM and SIGINT */
  signal: AbortSignal;
  fail(error: ErrorInfo, json: boolean): Promise<void>;
  end(): void;
}

export type Operands = readonly (string | string[] | undefined)[];
export type Options = Record<string, unknown>;

/** One call of a command: the app, its arguments, and its input and output. */
export interface Call {
  app: App;
  io: Io;
  operands: Operands;
  options: Options;
  json: boolean;
}

/**
 * Prints the result of a command as JSON, or else as the text that `text` makes. Secrets are hidden in both.
 *
 * @param _name the document, which has a schema in docs/json
 */
export function print<Name extends keyof Documents>(
  { io, json }: Pick<Call, 'io' | 'json'>,
  _name: Name,
  value: Documents[NoInfer<Name>],
  text: () => string,
): void {
  io.out(json ? `${JSON.stringify(redactDeep(asDocument(value)))}\n` : `${redact(text())}\n`);
}
