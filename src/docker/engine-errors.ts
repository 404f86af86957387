import { hasCode, hasErrno, LifeboatError } from '../base/errors.ts';

/** Errors between the agent and the engine. */

/** A request to the engine, for messages. */
export interface EngineRequest {
  method: string;
  /** without the query */
  path: string;
}

/** Returns ENGINE_REFUSED for a 4xx or 5xx, with the engine's message. */
export function refusal(status: number | undefined, text: string, request: EngineRequest): LifeboatError {
  let words = text;
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed && typeof parsed === 'object' && 'message' in parsed) words = String(parsed.message);
  } catch {
    // Proxies answer in HTML or plain text, which serves as the message.
  }
  words = words.replace(/\s+/g, ' ').trim().slice(0, 500) || 'no reason given';
  const hint =
    status === 403
      ? 'A proxy in front of the Docker socket forbids this call. docs/security.md lists the calls that Lifeboat needs.'
      : undefined;
  return new LifeboatError('ENGINE_REFUSED', `engine refused ${describe(request)}: ${words} (${status})`, {
    cause: Object.assign(new Error(words), { statusCode: status }),
    ...(hint ? { hint } : {}),
  });
}

/** Returns the error for a connection that failed, broke, or does not use HTTP. */
export function connectionError(error: unknown, request: EngineRequest): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code.startsWith('HPE_')) {
    return new LifeboatError('ENGINE_PROTOCOL', `engine did not speak HTTP: ${reason}`, { cause: error });
  }
  return new LifeboatError('ENGINE_UNREACHABLE', `engine cannot be reached for ${describe(request)}: ${reason}`, {
    hint: hasErrno(error, 'EACCES', 'EPERM')
      ? 'Lifeboat may not open the Docker socket. Run it as a user that may, or add the socket’s group with group_add.'
      : 'Mount /var/run/docker.sock into the Lifeboat container, or set DOCKER_HOST to the engine or its proxy. `docker run --rm lifeboat --help` lists the commands.',
    cause: error,
  });
}

/** Formats a request for messages. */
export function describe(request: EngineRequest): string {
  // Ids are 64 characters long. Docker shows twelve.
  return `${request.method} ${request.path.replace(/([0-9a-f]{12})[0-9a-f]{52}/g, '$1')}`;
}

/** Returns the HTTP status of an ENGINE_REFUSED error, else undefined. */
export function engineStatusOf(error: unknown): number | undefined {
  if (!hasCode(error, 'ENGINE_REFUSED')) return undefined;
  const cause = error.cause;
  return cause instanceof Error && 'statusCode' in cause && typeof cause.statusCode === 'number'
    ? cause.statusCode
    : undefined;
}

/** Returns whether the engine reported that the container, image or exec does not exist. */
export function isNotFound(error: unknown): boolean {
  return engineStatusOf(error) === 404;
}

/** Returns whether a proxy of the Docker socket refused this kind of request. */
export function isForbidden(error: unknown): boolean {
  return [401, 403, 405].includes(engineStatusOf(error) ?? 0);
}
