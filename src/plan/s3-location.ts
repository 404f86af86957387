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
  /** of packs; all other objects have the server's default class */
  readonly storageClass?: string;
  /** encryption by the server; `customer`: with the key of the settings (SSE-C); absent: that of the bucket */
  readonly encryption?: 'AES256' | 'aws:kms' | 'aws:kms:dsse' | 'customer';
  /** id, alias or ARN of the key for `aws:kms` */
  readonly kmsKey?: string;
  /** canned ACL of new objects */
  readonly acl?: string;
  /** the owner of the key pays for requests, not the owner of the bucket */
  readonly requesterPays?: boolean;
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

/** Returns the parser of an option that is true or false. */
function onOrOff(option: string, field: 'requesterPays' | 'pathStyle') {
  return (value: string, into: Given): string | undefined => {
    const parsed = boolean(value);
    if ('problem' in parsed) return `has a ${option} that is neither true nor false`;
    into[field] = parsed.value;
    return undefined;
  };
}

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
  sse(value, into) {
    const known = (['AES256', 'aws:kms', 'aws:kms:dsse', 'customer'] as const).find((one) => one === value);
    if (!known) return 'has an sse that is none of AES256, aws:kms, aws:kms:dsse and customer';
    into.encryption = known;
    return undefined;
  },
  'sse-kms-key'(value, into) {
    if (!/^[\w:/+=,.-]{1,2048}$/.test(value)) return 'has an sse-kms-key that is no id, alias or ARN of a KMS key';
    into.kmsKey = value;
    return undefined;
  },
  acl(value, into) {
    if (/^(public|authenticated)-/.test(value)) return 'has an acl that lets everybody read the backups';
    if (!/^(private|bucket-owner-(full-control|read))$/.test(value)) {
      return 'has an acl that is none of bucket-owner-full-control, bucket-owner-read and private';
    }
    into.acl = value;
    return undefined;
  },
  'requester-pays': onOrOff('requester-pays', 'requesterPays'),
  profile(value, into) {
    if (!/^[\w.-]{1,64}$/.test(value)) return 'has a profile that is not the name of one';
    into.profile = value;
    return undefined;
  },
  'path-style': onOrOff('path-style', 'pathStyle'),
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
  const odd = judgeEncryption(given);
  if (odd) return odd;
  const prefix = parts.map((part) => `${part}/`).join('');
  return { value: { bucket, prefix, pathStyle: endpoint !== undefined, ...given } };
}

/** Returns true for a valid location whose objects are encrypted with a customer key (SSE-C). */
export function needsCustomerKey(destination: string): boolean {
  const parsed = isS3(destination) ? parseS3Location(destination) : undefined;
  return parsed !== undefined && 'value' in parsed && parsed.value.encryption === 'customer';
}

function judgeEncryption({ encryption, kmsKey, endpoint }: Given): Parsed<never> | undefined {
  if (kmsKey !== undefined && !encryption?.startsWith('aws:kms')) {
    return { problem: 'has an sse-kms-key without sse=aws:kms', hint: 'add sse=aws:kms' };
  }
  if (encryption === 'customer' && endpoint?.startsWith('http:')) {
    const hint = 'use an https endpoint: each request contains the key';
    return { problem: 'has sse=customer with an endpoint that is not https', hint };
  }
  return undefined;
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

/** Returns a text that is the same for each way to reach a place, and different for each place. */
export function s3Place({ endpoint, bucket, prefix }: Pick<S3Location, 'endpoint' | 'bucket' | 'prefix'>): string {
  return JSON.stringify([endpoint ?? null, bucket, prefix]);
}
