import type { Parsed } from './values/fields.ts';
import { didYouMean } from './values/suggest.ts';
import { boolean } from './values/values.ts';

/** A place in a bucket, as `s3://bucket/prefix?endpoint=…` names it. */
export interface S3Location {
  readonly bucket: string;
  /** empty, or ending in a slash */
  readonly prefix: string;
  /** absent: AWS itself */
  readonly endpoint?: string;
  readonly region?: string;
  readonly storageClass?: string;
  /** profile of the AWS tools that has the key; absent: the key of the settings */
  readonly profile?: string;
  /** `https://host/bucket/…` rather than `https://bucket.host/…` */
  readonly pathStyle: boolean;
}

type Given = { -readonly [K in keyof S3Location]?: S3Location[K] };

const FORM = 'write s3://bucket/prefix?endpoint=https://…&region=…&storage-class=…&path-style=true';
/** Bucket names by the rule of AWS, which all other servers accept too. */
const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
/** Storage classes of AWS that cannot be read at once, as the next run needs. */
const ARCHIVES = ['GLACIER', 'DEEP_ARCHIVE'];

const OPTIONS: Readonly<Record<string, (value: string, into: Given) => string | undefined>> = {
  endpoint(value, into) {
    const url = URL.canParse(value) ? new URL(value) : undefined;
    const web = url?.protocol === 'https:' || url?.protocol === 'http:';
    if (!url || !web || url.pathname !== '/' || url.search !== '' || url.hash !== '') {
      return 'has an endpoint that is not the http or https address of a server';
    }
    into.endpoint = url.origin;
    return undefined;
  },
  region(value, into) {
    if (!/^[a-z0-9-]{1,50}$/.test(value)) return 'has a region with characters that no region has';
    into.region = value;
    return undefined;
  },
  'storage-class'(value, into) {
    if (!/^[A-Z0-9_-]{1,50}$/.test(value)) return 'has a storage class that is not in capital letters, as STANDARD_IA';
    into.storageClass = value;
    return undefined;
  },
  profile(value, into) {
    if (!/^[\w.-]{1,64}$/.test(value)) return 'has a profile that is not the name of one';
    into.profile = value;
    return undefined;
  },
  'path-style'(value, into) {
    const parsed = boolean(value);
    if ('problem' in parsed) return 'has a path-style that is neither true nor false';
    into.pathStyle = parsed.value;
    return undefined;
  },
};

/** Returns true for a destination that is meant to be in a bucket, valid or not. */
export function isS3(destination: string): boolean {
  return /^s3:/i.test(destination);
}

/** Parses `s3://bucket/prefix?…`. A refusal is `hidden` if the text may contain a key, which no message may repeat. */
export function parseS3Location(text: string): Parsed<S3Location> {
  const match = /^s3:\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(#.*)?$/i.exec(text);
  if (!match) return { problem: 'does not name a bucket', hint: FORM };
  const [, bucket = '', path = '', query = '', fragment] = match;
  if (text.includes('@') || fragment !== undefined) {
    const hint = `keys go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; ${FORM}`;
    return { problem: 'has an @ or # in it', hint, hidden: true };
  }
  if (!BUCKET.test(bucket)) return { problem: 'has a bucket name that no bucket can have', hint: FORM };
  const parts = path.split('/').filter((part) => part !== '');
  if (parts.some((part) => part.startsWith('.') || /[\p{Cc}\\%]/u.test(part))) {
    return { problem: 'has a prefix with a part that starts with a dot, or with % or \\ in it', hint: FORM };
  }
  const given: Given = {};
  const wrong = readOptions(query, given);
  if (wrong) return wrong;
  const { endpoint, storageClass } = given;
  if (endpoint === undefined && storageClass !== undefined && ARCHIVES.includes(storageClass)) {
    const hint = 'use STANDARD_IA or GLACIER_IR, which can be read at once';
    return { problem: `has the storage class ${storageClass}, which cannot be read back at once`, hint };
  }
  const prefix = parts.map((part) => `${part}/`).join('');
  return { value: { bucket, prefix, pathStyle: endpoint !== undefined, ...given } };
}

function readOptions(query: string, into: Given): Parsed<never> | undefined {
  const seen = new Set<string>();
  for (const [name, value] of new URLSearchParams(query)) {
    const read = Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : undefined;
    if (!read) {
      const hint = didYouMean(name, Object.keys(OPTIONS)) ?? FORM;
      return { problem: 'has an unknown option after the ?', hint, hidden: true };
    }
    if (seen.has(name)) return { problem: `has ${name} twice`, hint: FORM, hidden: true };
    seen.add(name);
    const problem = read(value, into);
    if (problem) return { problem, hint: FORM, hidden: true };
  }
  return undefined;
}
