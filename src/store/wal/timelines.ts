import { LifeboatError } from '../../base/errors.ts';
import { formatLsn, parseLsn, segmentAt } from './names.ts';

/**
 * Timelines of the write-ahead log. A server that ends a recovery leaves its timeline, and writes a history file that
 * names the ancestors of its new one (Postgres docs, 26.3.5).
 */

/** An ancestor of a timeline, and the position at which the next timeline left it. */
export interface Ancestor {
  timeline: number;
  until: bigint;
}

/** Parses the name of a history file. Returns the timeline, or undefined for any other name. */
export function parseHistoryName(name: string): number | undefined {
  const timeline = /^([0-9A-F]{8})\.history$/.exec(name)?.[1];
  return timeline === undefined ? undefined : Number.parseInt(timeline, 16);
}

/**
 * Parses a history file, which has a line for each ancestor, oldest first: timeline, position, and a reason (Postgres
 * source, timeline.c). @throws OBJECT_DAMAGED
 */
export function parseHistory(text: string): Ancestor[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [timeline = '', lsn = ''] = line.split(/\s+/);
      if (!/^[1-9]\d{0,9}$/.test(timeline)) throw new LifeboatError('OBJECT_DAMAGED', 'a history file is damaged');
      return { timeline: Number(timeline), until: parseLsn(lsn) };
    });
}

/** An ancestor, as a page lists it. */
interface ListedAncestor {
  timeline: number;
  until: string;
}

/** Returns ancestors as a page lists them. */
export function listAncestors(ancestors: readonly Ancestor[]): ListedAncestor[] {
  return ancestors.map(({ timeline, until }) => ({ timeline, until: formatLsn(until) }));
}

/** The inverse of {@link listAncestors}. */
export function parseAncestors(listed: readonly ListedAncestor[]): Ancestor[] {
  return listed.map(({ timeline, until }) => ({ timeline, until: parseLsn(until) }));
}

/** A timeline with its ancestors, oldest first. */
export interface History {
  timeline: number;
  lineage: readonly Ancestor[];
}

/**
 * Returns the timeline whose segment of that number belongs to a history. The segment in which a timeline ends exists
 * on the next timeline too, with the same bytes up to the fork, so it counts as one of the next.
 */
export function timelineAt(number: number, { timeline, lineage }: History, segmentSize: number): number {
  const ancestor = lineage.find(({ until }) => number < segmentAt(until, segmentSize));
  return ancestor?.timeline ?? timeline;
}
