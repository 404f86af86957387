import type { KeepPolicy } from './model.ts';
import { parseKeep } from './retention.ts';
import { isS3, needsCustomerKey, parseS3Location } from './s3-location.ts';
import { type Mistake, mistake, type Parsed } from './values/fields.ts';
import { type PlaceLimits, takeLimits } from './values/place-limits.ts';

/** A second place for the repository, as LIFEBOAT_COPY names it. */
export interface CopyLocation {
  /** an absolute path without a trailing slash, or `s3://…` with its options */
  readonly location: string;
  /** the location without its options, or with one if the destination would have the same name */
  readonly name: string;
  /** absent: the retention of the destination */
  readonly keep?: KeepPolicy;
  /** absent: nothing is known of its price, and no size is too large */
  readonly limits?: PlaceLimits;
}

/** The destination, as LIFEBOAT_DESTINATION names it. */
type DestinationLocation = Pick<CopyLocation, 'location' | 'limits'>;

const FORM = 'write the absolute path of a mount of this container, such as /backups, or s3://bucket/prefix';

/** Parses a destination: an absolute path, or `s3://bucket/prefix?…`. */
export function parseLocation(value: string): Parsed<string> {
  const path = value.trim();
  if (isS3(path)) {
    const location = parseS3Location(path);
    return 'value' in location ? { value: path } : location;
  }
  if (!path.startsWith('/')) return { problem: 'is not an absolute path', hint: FORM };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: such a path is a mistake, and unreadable in messages
  if (/[\x00-\x1f]/.test(path)) return { problem: 'has control characters', hint: FORM };
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) return { problem: 'has .. as a part', hint: FORM };
  if (parts.length === 0) return { problem: 'is the root directory', hint: FORM };
  return { value: `/${parts.join('/')}` };
}

/** Parses the destination: a location, with limits among its options. */
export function parseDestination(text: string): Parsed<DestinationLocation> {
  const taken = takeLimits(text.trim());
  if ('problem' in taken) return taken;
  const location = parseLocation(taken.value.location);
  return 'value' in location ? { value: { ...taken.value, location: location.value } } : location;
}

/**
 * Parses the locations of copies, separated by white space or commas. Each may have `keep=90d+12m` among its options.
 * Two copies must not overlap or have the same name.
 */
export function parseCopies(text: string): Parsed<CopyLocation[]> {
  const items = text.split(/[\s,]+/).filter((item) => item !== '');
  const copies: CopyLocation[] = [];
  for (const [i, item] of items.entries()) {
    const parsed = parseCopy(item);
    const copy = 'value' in parsed ? parsed.value : undefined;
    const number = items.length > 1 ? `(number ${i + 1}) ` : '';
    if ('problem' in parsed) return { ...parsed, problem: number + parsed.problem };
    const other = copies.find(({ location, name }) => name === copy?.name || overlap(location, parsed.value.location));
    if (other) {
      const hint = 'give each copy a directory or prefix of its own';
      return { problem: `${number}overlaps another copy: ${other.name}`, hint };
    }
    copies.push(parsed.value);
  }
  return { value: copies };
}

function parseCopy(text: string): Parsed<CopyLocation> {
  const taken = takeLimits(text);
  if ('problem' in taken) return taken;
  const { limits } = taken.value;
  const [, place = '', query = ''] = /^([^?]*)\??(.*)$/s.exec(taken.value.location) ?? [];
  const options = query.split('&').filter((option) => option !== '');
  const keeps = options.filter((option) => option.startsWith('keep='));
  const others = options.filter((option) => !option.startsWith('keep='));
  if (keeps.length > 1) return { problem: 'has keep twice', hidden: true };
  if (!isS3(place) && others.length > 0) {
    const hint = 'the options of a directory are keep, price-per-gb, warn-size and warn-cost';
    return { problem: 'has an unknown option after the ?', hint, hidden: true };
  }
  const location = parseLocation(others.length > 0 ? `${place}?${others.join('&')}` : place);
  if ('problem' in location) return location;
  const given = new URLSearchParams(keeps[0] ?? '').get('keep');
  const keep = given === null ? undefined : parseKeep(given);
  if (keep && 'problem' in keep) {
    const hint = 'write it with + between the words: ?keep=90d+12m';
    return { problem: `has a keep policy that ${keep.problem}`, hint, hidden: true };
  }
  const name = nameOf(location.value);
  return {
    value: { location: location.value, name, ...(keep ? { keep: keep.value } : {}), ...(limits ? { limits } : {}) },
  };
}

/**
 * Returns the copies, each with a name that the destination does not have. Reports, messages and what Lifeboat
 * remembers tell places apart by their names, and two servers may have a bucket of the same name.
 */
export function withOwnNames(copies: readonly CopyLocation[], destination: string): readonly CopyLocation[] {
  return copies.map((copy) => {
    if (copy.name !== nameOf(destination)) return copy;
    const query = new URLSearchParams(copy.location.replace(/^[^?]*/s, ''));
    const option = ['endpoint', 'region', 'profile'].find((one) => query.has(one));
    return { ...copy, name: `${copy.name}${option ? `?${option}=${query.get(option)}` : ' (AWS)'}` };
  });
}

/** Returns the name of a location for messages: the location without its options. */
export function nameOf(location: string): string {
  return (isS3(location) ? location.replace(/\?.*$/s, '') : location).replace(/\/+$/, '');
}

/** Returns true if two locations are the same place, or one is inside the other. */
export function overlap(a: string, b: string): boolean {
  const [one, two] = [rootOf(a), rootOf(b)];
  return one.startsWith(two) || two.startsWith(one);
}

/** Returns a text that starts with the text of every location around it. */
function rootOf(location: string): string {
  if (!isS3(location)) return `${location}/`;
  const parsed = parseS3Location(location);
  if (!('value' in parsed)) return location;
  const { endpoint = 'AWS', bucket, prefix } = parsed.value;
  return `s3 ${endpoint} ${bucket}/${prefix}`;
}

/** AWS has a server for each region; only a profile or files that the SDK reads by itself may name one for it. */
export function lacksRegion(location: string): boolean {
  const parsed = isS3(location) ? parseS3Location(location) : undefined;
  if (!parsed || !('value' in parsed)) return false;
  const { endpoint, region, profile } = parsed.value;
  return endpoint === undefined && region === undefined && profile === undefined;
}

/** Checks the destination and the copies against each other. `region`: AWS_REGION. */
export function misplaced(destination: string, copies: readonly CopyLocation[], region: string | undefined): Mistake[] {
  const mistakes: Mistake[] = [];
  const refuse = (key: string, text: string, hint: string) =>
    void mistakes.push(mistake(key, 'invalid', `${key} ${text}`, hint));
  const hint = 'add ?region=eu-central-1 for AWS, or ?endpoint=https://… for another server';
  if (region === undefined) {
    if (lacksRegion(destination)) refuse('LIFEBOAT_DESTINATION', 'names neither a region nor an endpoint', hint);
    const copy = copies.find(({ location }) => lacksRegion(location));
    if (copy) refuse('LIFEBOAT_COPY', `names neither a region nor an endpoint for ${copy.name}`, hint);
  }
  const inside = copies.find(({ location }) => overlap(location, destination));
  if (inside) {
    const other = 'a copy needs a place of its own, on another disk or server';
    refuse('LIFEBOAT_COPY', `names ${inside.name}, which is where LIFEBOAT_DESTINATION is`, other);
  }
  return mistakes;
}

/** Returns a mistake for each setting with a location that needs a customer key, for settings without one. */
export function lackingCustomerKey(destination: string, copies: readonly CopyLocation[]): Mistake[] {
  const places = [
    ...[{ key: 'LIFEBOAT_DESTINATION', location: destination }],
    ...copies.map(({ location }) => ({ key: 'LIFEBOAT_COPY', location })),
  ];
  return places
    .filter(({ location }) => needsCustomerKey(location))
    .map(({ key }) => {
      const hint = 'set LIFEBOAT_S3_CUSTOMER_KEY or LIFEBOAT_S3_CUSTOMER_KEY_FILE';
      return mistake(key, 'invalid', `${key} asks for sse=customer, but there is no customer key`, hint);
    });
}
