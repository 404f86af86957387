import type { S3Client } from '@aws-sdk/client-s3';
import { LifeboatError } from '../../base/errors.ts';
import { registerSecret } from '../../base/redact.ts';
import type { S3Location } from '../../plan/s3-location.ts';
import { isUncertain, markUncertain } from '../destination.ts';
import { isPackKey } from '../keys.ts';
import { explainS3, type S3Act } from './errors.ts';
import { addHeaders } from './headers.ts';
import { refuseNotS3 } from './not-s3.ts';
import { S3Outage } from './outage.ts';
import { inPieces } from './pieces.ts';
import { isMangled, isPassing, pause, type S3Limits, statusOf, withRetries } from './retry.ts';

type Sdk = typeof import('@aws-sdk/client-s3');

/** An explicitly configured key. Without one, the SDK searches its files, roles and services. */
export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

interface S3ClientOptions {
  location: S3Location;
  credentials?: S3Credentials;
  /** base64 of the customer key (SSE-C), if the location asks for one */
  customerKey?: string | undefined;
  limits: S3Limits;
  /** source of HTTP_PROXY, HTTPS_PROXY and NO_PROXY */
  env: NodeJS.ProcessEnv;
  /** aborts when the process shuts down: requests in progress then end within seconds */
  hurry?: AbortSignal | undefined;
}

/** One SDK request, repeated as often as necessary. */
export type S3Request<T> = (sdk: Sdk, client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>;

interface S3RequestOptions {
  signal?: AbortSignal | undefined;
  /**
   * time limit of one attempt, milliseconds; restarts whenever the server accepts bytes; default: as long as the server
   * may be silent
   */
  limitMs?: number;
  /** which failures are retried; default: transient ones */
  passing?: (error: unknown) => boolean;
}

/**
 * A bucket accessed through the SDK, with retries, time limits and errors for users. The first request loads the SDK.
 */
export class S3Connection {
  readonly bucket: string;
  readonly prefix: string;
  private readonly storageClass: string | undefined;
  readonly limits: S3Limits;
  readonly outage: S3Outage;
  readonly name: string;
  /** false once the server has refused a request that deletes several objects */
  deletesInBulk = true;
  private readonly options: S3ClientOptions;
  /** callbacks for when the server has accepted bytes, by the signal of the attempt */
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
   * Sends a request. Retries it if the failure may be transient, but not while the server is down.
   *
   * @throws the SDK's own error; the signal's reason
   */
  async send<T>(request: S3Request<T>, { signal, limitMs, passing = isPassing }: S3RequestOptions = {}): Promise<T> {
    const { sdk, client } = await this.open();
    const patience = this.outage.begin();
    const attempt = async () => {
      const limit = new AbortController();
      const late = () => limit.abort(new DOMException('no response in time', 'TimeoutError'));
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
        // The body of a response may take any time. Its reader sets its own limits.
        one.end();
      }
    };
    const { isOver } = patience;
    try {
      return await withRetries(attempt, this.limits, { signal, passing, isOver, hurry: this.options.hurry });
    } catch (error) {
      // Callers that make their own attempts decide themselves when to give up.
      if (passing === isPassing && isPassing(error) && !signal?.aborted) patience.gaveUp(error);
      throw error;
    }
  }

  /**
   * Returns the storage class of new objects with this key; undefined: the server's default. Only packs get the class
   * of the location. Runs read and replace the other objects often, which other classes charge extra or do not allow.
   */
  storageClassOf(key: string): string | undefined {
    return isPackKey(key) ? this.storageClass : undefined;
  }

  /** Waits before attempt `number + 1`; ends early when `signal` is aborted. */
  pause(number: number, signal?: AbortSignal): Promise<void> {
    return pause(number, this.limits, signal, this.options.hurry);
  }

  /**
   * Returns the error that a caller throws for `error`: the signal's reason, `error` if it is a LifeboatError, or the
   * error for users.
   */
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
    // Loaded only here, so code that does not use S3 starts without them.
    const sdk = await import('@aws-sdk/client-s3');
    // Not imported: that also loads a second HTTP client, which takes 60 ms of processor time.
    const { Agent: HttpAgent } = process.getBuiltinModule('node:http');
    const { Agent: HttpsAgent } = process.getBuiltinModule('node:https');
    const { location, credentials, env, limits, customerKey } = this.options;
    const { endpoint, pathStyle, profile } = location;
    // Servers other than AWS have their own regions, or none, but a signature always names one.
    const region = location.region ?? (endpoint === undefined ? undefined : 'us-east-1');
    const proxyEnv = proxiesOf(env);
    for (const url of Object.values(proxyEnv)) if (url && URL.canParse(url)) registerSecret(passwordOf(url));
    const sockets = { keepAlive: true, maxSockets: 16, proxyEnv };
    const client = new sdk.S3Client({
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(region === undefined ? {} : { region }),
      ...(profile === undefined ? (credentials ? { credentials } : {}) : { profile }),
      forcePathStyle: pathStyle,
      // R2, B2 and older Ceph refuse checksums newer than S3 itself. All of them check Content-MD5.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // Many proxies never send "100 Continue", and each part would wait for it.
      expectContinueHeader: false,
      maxAttempts: 1,
      followRegionRedirects: endpoint === undefined,
      requestHandler: {
        connectionTimeout: Math.min(10_000, limits.silenceMs),
        httpAgent: new HttpAgent(sockets),
        httpsAgent: new HttpsAgent(sockets),
      },
    });
    addHeaders(client, { ...location, customerKey });
    refuseNotS3(client);
    const { requestHandler } = client.config;
    const handle = requestHandler.handle.bind(requestHandler);
    requestHandler.handle = (request, options: { abortSignal?: object } = {}) => {
      // The request is signed already, and the bytes sent stay the same.
      const taken = options.abortSignal && this.taken.get(options.abortSignal);
      if (taken && Buffer.isBuffer(request.body)) request.body = inPieces(request.body, taken);
      return handle(request, options);
    };
    // Credentials that the SDK finds itself must not appear in logs either.
    const found = await client.config.credentials();
    for (const secret of [found.secretAccessKey, found.sessionToken]) if (secret) registerSecret(secret);
    return { sdk, client };
  }
}

function passwordOf(url: string): string {
  return decodeURIComponent(new URL(url).password);
}

/** Reads the proxy variables in upper or lower case, as curl does. */
function proxiesOf(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY'].flatMap((name) => [name, name.toLowerCase()]);
  return Object.fromEntries(names.flatMap((name) => (env[name] ? [[name, env[name]]] : [])));
}
