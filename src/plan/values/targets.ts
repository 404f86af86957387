/** The targets of a source, in milliseconds. */
export interface Targets {
  /** how much work the loss of the host may cost */
  rpoMs?: number;
  /** how long a restore may take */
  rtoMs?: number;
}
