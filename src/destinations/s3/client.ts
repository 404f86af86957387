import { createHash } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import { registerSecret } from '../../base/redact.ts';
import type { S3Location } from '../../plan/s3-location.ts';
import { isUncertain, markUncertain } from '../destination.ts';
import { explainS3, type S3Act } from './errors.ts';
import { S3Outage } from './outage.ts';
import { inPieces } from './pieces.ts';
import { isMangled, isPassing, pause, type S3Limits, statusOf, withRetries } from './retry.ts';

type Sdk = typeof import('@aws-sdk/client-s3');

/** A key that was given outright; without one the SDK looks in its files, roles and services. */
export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

interface S3ClientOptions {
  location: S3Location;
  credentials?: S3Credentials;
  limits: S3Limits;
  /** where HTTP_PROXY, HTTPS_PROXY and NO_PROXY are looked up */
  env: NodeJS.ProcessEnv;
  /** when the process is to end: what is under way is ended within seconds */
  hurry?: AbortSignal | undefined;
}

/** One request by the SDK, to be made as often as it takes. */
export type S3Request<T> = (sdk: Sdk, client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>;

interface S3RequestOptions {
  signal?: AbortSignal | undefined;
  /**
   * how long one attempt may take, milliseconds, counted anew while the server takes bytes that are sent; default: as long as
   * the server may say nothing
   */
  limitMs?: number;
  /** which failures are worth another attempt; default: those that may pass */
  passing?: (error: unknown) => boolean;
}

/** A bucket as the SDK reaches it, with retries, time limits and errors for people. The SDK is loaded by the first request. */
export class S3Connection {
  readonly bucket: string;
  readonly prefix: string;
  readonly storageClass: string | undefined;
  readonly limits: S3Limits;
  readonly outage: S3Outage;
  readonly name: string;
  private readonly options: S3ClientOptions;
  /** by the signal of an attempt: what to call when the server has taken bytes */
  private readonly taken = new WeakMap<object, () => void>();
  private opening: Promise<{ sdk: Sdk; client: S3Client }> | undefined;

  constructor(options: S3ClientOptions) {
    const { bucket, prefix, storageClass } = options.location;
    this.options = options;
    this.bucket = bucket;
    this.prefix = prefix;
    this.storageClass = storageClass;
    this.limits = options.limits;
    this.outage = new S3Outage(options.limits, options.hurry);
    this.name = `s3://${bucket}/${prefix}`.replace(/\/$/, '');
  }

  /**
   * Makes a request, again where its failure may pass, but not while the server is down. Throws the SDK's own error, or the
   * signal's reason.
   */
  async send<T>(request: S3Request<T>, { signal, limitMs, passing = isPassing }: S3RequestOptions = {}): Promise<T> {
    const { sdk, client } = await this.open();
    const patience = this.outage.begin();
    const attempt = async () => {
      const limit = new AbortController();
      const late = () => limit.abort(new DOMException('no answer in time', 'TimeoutError'));
      const one = patience.attempt(limitMs ?? this.limits.silenceMs, late);
      const abortSignal = AbortSignal.any([limit.signal, ...(signal ? [signal] : [])]);
      this.taken.set(abortSignal, one.taken);
      try {
        const answer = await request(sdk, client, { abortSignal });
        one.answered();
        return answer;
      } catch (error) {
        const failure = limit.signal.aborted ? limit.signal.reason : error;
        if (isPassing(failure) && !isMangled(failure)) one.failed();
        else if (statusOf(failure) !== undefined) one.answered();
        throw failure;
      } finally {
        this.taken.delete(abortSignal);
        // The body of an answer may take as long as it likes; whoever reads it looks after that.
        one.end();
      }
    };
    const { isOver } = patience;
    try {
      return await withRetries(attempt, this.limits, { signal, passing, isOver, hurry: this.options.hurry });
    } catch (error) {
      // Who makes attempts of its own knows better when they are used up.
      if (passing === isPassing && isPassing(error) && !signal?.aborted) patience.gaveUp(error);
      throw error;
    }
  }

  /** Waits before attempt `number + 1`; ends early when `signal` is aborted. */
  pause(number: number, signal?: AbortSignal): Promise<void> {
    return pause(number, this.limits, signal, this.options.hurry);
  }

  /** What a caller throws for `error`: the signal's reason, what it is already, or the error for people. */
  explain(error: unknown, act: S3Act, signal?: AbortSignal): unknown {
    if (signal?.aborted || error instanceof LifeboatError) return error;
    const explained = explainS3(error, act, this.name);
    return isUncertain(error) ? markUncertain(explained) : explained;
  }

  private open(): Promise<{ sdk: Sdk; client: S3Client }> {
    this.opening ??= this.connect();
    this.opening.catch(() => {
      this.opening = undefined;
    });
    return this.opening;
  }

  private async connect(): Promise<{ sdk: Sdk; client: S3Client }> {
    // Only here: what does not talk to S3 starts without them.
    const [sdk, { Agent: HttpAgent }, { Agent: HttpsAgent }] = await Promise.all([
      import('@aws-sdk/client-s3'),
      import('node:http'),
      import('node:https'),
    ]);
    const { location, credentials, env, limits } = this.options;
    const { endpoint, pathStyle, profile } = location;
    // Servers other than AWS have regions of their own, or none, but a signature always names one.
    const region = location.region ?? (endpoint === undefined ? undefined : 'us-east-1');
    const proxyEnv = proxiesOf(env);
    for (const url of Object.values(proxyEnv)) if (url && URL.canParse(url)) registerSecret(passwordOf(url));
    const sockets = { keepAlive: true, maxSockets: 16, proxyEnv };
    const client = new sdk.S3Client({
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(region === undefined ? {} : { region }),
      ...(profile === undefined ? (credentials ? { credentials } : {}) : { profile }),
      forcePathStyle: pathStyle,
      // R2, B2 and older Ceph refuse the checksums that are newer than S3 itself; Content-MD5 they all check.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // Many proxies never say that a body may come, and each part would wait for it.
      expectContinueHeader: false,
      maxAttempts: 1,
      followRegionRedirects: endpoint === undefined,
      requestHandler: {
        connectionTimeout: Math.min(10_000, limits.silenceMs),
        httpAgent: new HttpAgent(sockets),
        httpsAgent: new HttpsAgent(sockets),
      },
    });
    client.middlewareStack.add(
      (next) => (args) => {
        withMd5(args.request as Parameters<typeof withMd5>[0]);
        return next(args);
      },
      { step: 'build', priority: 'low', name: 'lifeboatMd5' },
    );
    const { requestHandler } = client.config;
    const handle = requestHandler.handle.bind(requestHandler);
    requestHandler.handle = (request, options: { abortSignal?: object } = {}) => {
      // Signed already: what is sent stays the same.
      const taken = options.abortSignal && this.taken.get(options.abortSignal);
      if (taken && Buffer.isBuffer(request.body)) request.body = inPieces(request.body, taken);
      return handle(request, options);
    };
    // Those that the SDK finds by itself must not show either.
    const found = await client.config.credentials();
    for (const secret of [found.secretAccessKey, found.sessionToken]) if (secret) registerSecret(secret);
    return { sdk, client };
  }
}

/** For settings of a bucket a checksum is demanded. MD5 is the one that every server knows; the SDK has newer ones. */
function withMd5(request: { body?: unknown; headers: Record<string, string> }): void {
  const { body, headers } = request;
  if (typeof body !== 'string' || body === '') return;
  for (const name of Object.keys(headers)) if (/^x-amz-(sdk-)?checksum-/i.test(name)) delete headers[name];
  headers['content-md5'] = createHash('md5').update(body).digest('base64');
}

function passwordOf(url: string): string {
  return decodeURIComponent(new URL(url).password);
}

/** In capital letters or small ones, as curl and everybody else has them. */
function proxiesOf(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  return Object.fromEntries(names.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
}
