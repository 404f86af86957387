import type { ExtractedTree, ExtractTreeOptions } from './extracted-tree.ts';

const PROGRESS_MS = 250;

/** Reports the progress of an extraction, at most four times a second. */
export class ExtractionProgress {
  private readonly result: Readonly<ExtractedTree>;
  private readonly listener: ExtractTreeOptions['progress'];
  private last = 0;
  /** bytes written of incomplete large files */
  private underWay = 0;

  /** @param result counts what is complete */
  constructor(result: Readonly<ExtractedTree>, listener: ExtractTreeOptions['progress']) {
    this.result = result;
    this.listener = listener;
  }

  /** Counts bytes written of a large file. */
  heard(bytes: number): void {
    this.underWay += bytes;
    this.report();
  }

  /** Takes back the bytes of a large file, which the result counts from now on. */
  complete(bytes: number): void {
    this.underWay -= bytes;
  }

  /** Reports now if the last report is old enough, or if it `must` be reported. */
  report(must = false): void {
    const now = Date.now();
    if (!must && now - this.last < PROGRESS_MS) return;
    this.last = now;
    this.listener?.({ done: this.result.bytes + this.underWay, files: this.result.files });
  }
}
