import { LifeboatError } from '../base/errors.ts';

/** The longest line, bytes. Neither the engine nor a helper writes longer ones. */
const MAX_LINE = 8 * 1024 * 1024;

/** Splits chunks of bytes into lines of UTF-8, and keeps an unfinished line of limited length. */
export class LineBuffer {
  private rest: Buffer[] = [];
  /** length of the unfinished line, bytes */
  pending = 0;

  /** Yields the lines that `data` completes, without their newline. @throws ENGINE_PROTOCOL for an endless line */
  *split(data: Buffer): Generator<string> {
    let from = 0;
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, from)) {
      const line = Buffer.concat([...this.rest, data.subarray(from, at)]).toString('utf8');
      this.rest = [];
      this.pending = 0;
      from = at + 1;
      yield line;
    }
    if (from === data.length) return;
    this.rest.push(Buffer.from(data.subarray(from)));
    this.pending += data.length - from;
    if (this.pending > MAX_LINE)
      throw new LifeboatError('ENGINE_PROTOCOL', `a line of more than ${MAX_LINE} bytes arrived`);
  }
}
