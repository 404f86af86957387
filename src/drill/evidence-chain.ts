import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import type { DrillReport } from '../report/drill-report.ts';
import type { Verdict } from '../store/repository/signing.ts';

/** Evidence as it is stored, with its place among all evidence of the project. */
export interface StoredDrill {
  report: DrillReport;
  /** 1 for the first */
  sequence: number;
  /** hex SHA-256 of the stored document, and of the one before it */
  hash: string;
  previous: string | null;
  /** name of the place where it was stored; absent in older evidence */
  place?: string;
  signature: Verdict;
}

/** The newest evidence that an agent has stored or read at a place. */
export interface SeenDrill {
  id: string;
  sequence: number;
  hash: string;
}

/** A document that is no evidence, or that shows that evidence is missing. */
export interface BadDrill {
  id: string;
  error: ErrorInfo;
}

/** Evidence of one place may be stored at the same time by two agents. The clocks of two hosts differ, milliseconds. */
const SAME_TIME_MS = 10 * 60_000;

/**
 * Parts evidence from documents without a signature, if a key is set. Those from before the key count: the first signed
 * document after them names them by their hashes.
 *
 * @param drills in the order of the chain
 */
export function partUnsigned(drills: readonly StoredDrill[]): { drills: StoredDrill[]; unsigned: BadDrill[] } {
  const byHash = new Map(drills.map((one) => [one.hash, one]));
  const counted = new Set<StoredDrill>();
  const hasSigned = drills.some(({ signature }) => signature === 'signed');
  for (const drill of drills) {
    if (hasSigned && drill.signature === 'unsigned') continue;
    let one: StoredDrill | undefined = drill;
    while (one && !counted.has(one)) {
      counted.add(one);
      one = one.previous === null ? undefined : byHash.get(one.previous);
    }
  }
  const others = drills.filter((one) => !counted.has(one));
  return {
    drills: drills.filter((one) => counted.has(one)),
    unsigned: others.map(({ report }) => ({ id: report.id, error: errorInfo(notSigned(report.id)) })),
  };
}

function notSigned(id: string): LifeboatError {
  return new LifeboatError('SIGNATURE_MISSING', `the evidence of drill ${id} is not signed, so it does not count`, {
    hint: 'If it was stored by a drill without LIFEBOAT_SIGNING_KEY, run that drill again with the key. Otherwise it may be forged.',
  });
}

/**
 * Finds the places where evidence is missing: it does not follow an earlier document, or a document took the place of
 * one that was not there.
 *
 * @param drills in the order of the chain
 * @param isPart they are only the newest ones
 */
export function breaksOf(drills: readonly StoredDrill[], isPart: boolean): BadDrill[] {
  // Where the newest ones begin: by their numbers, or by their times if a clock was wrong.
  const [first] = isPart ? drills : [];
  const oldest = isPart ? drills.map(({ report }) => report.id).sort()[0] : undefined;
  const earlier = new Set<string>();
  return drills.flatMap((one, at) => {
    const { report, sequence, previous, hash } = one;
    const begins = sequence === first?.sequence || report.id === oldest;
    const follows = previous === null ? sequence === 1 : earlier.has(previous) || begins;
    earlier.add(hash);
    const before = drills.slice(0, at).find((other) => isReplaced(other, one));
    return [
      ...(follows ? [] : [broken(report.id, 'does not follow an earlier one: evidence is missing or was changed')]),
      ...(before ? [broken(report.id, `has the number of that of ${before.report.id}, which was not there then`)] : []),
    ];
  });
}

/** Returns whether the second of two documents with the same number was stored although the first one was missing. */
function isReplaced(first: StoredDrill, second: StoredDrill): boolean {
  if (first.sequence !== second.sequence || first.place === undefined || first.place !== second.place) return false;
  return Math.abs(Date.parse(second.report.end) - Date.parse(first.report.end)) > SAME_TIME_MS;
}

function broken(id: string, what: string): BadDrill {
  return { id, error: { code: 'CHAIN_BROKEN', message: `the evidence of drill ${id} ${what}` } };
}

/** Returns the problem of evidence that an agent has seen and that is not there. */
export function lost({ id, sequence }: SeenDrill): BadDrill {
  const message = `the evidence of drill ${id} (number ${sequence}) is gone: Lifeboat has seen it, and did not remove it`;
  const hint = 'A copy of the repository may have it. Find out who can delete there.';
  return { id, error: { code: 'CHAIN_BROKEN', message, hint } };
}
