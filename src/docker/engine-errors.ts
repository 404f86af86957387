import { hasCode, hasErrno, LifeboatError } from '../base/errors.ts';

/** What can go wrong between the agent and the engine, as coded errors. */

/** What a call asks of the engine, for messages. */
export interface EngineRequest {
  method: string;
  /** without the query */
  path: string;
}

/** The error for a 4xx or 5xx, with the engine's words. */
export function refusal(status: number | undefined, text: string, request: EngineRequest): LifeboatError {
  let words = text;
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed && typeof parsed === 'object' && 'message' in parsed) words = String(parsed.message);
  } catch {
    // Proxies answer in HTML or plain text; their words are as good.
  }
  words = words.replace(/\s+/g, ' ').trim().slice(0, 500) || 'no reason given';
  const hint =
    status === 403 ? 'A proxy in front of the Docker socket forbids this call; docs list what is needed.' : undefined;
  return new LifeboatError('ENGINE_REFUSED', `engine refused ${describe(request)}: ${words} (${status})`, {
    cause: Object.assign(new Error(words), { statusCode: status }),
    ...(hint ? { hint } : {}),
  });
}

/** The error for a connection that could not be made, broke, or did not speak HTTP. */
export function connectionError(error: unknown, request: EngineRequest): LifeboatError {
  if (error instanceof LifeboatError) return error;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const reason = error instanceof Error ? error.message : String(error);
  if (code.startsWith('HPE_')) {
    return new LifeboatError('ENGINE_PROTOCOL', `engine did not speak HTTP: ${reason}`, { cause: error });
  }
  return new LifeboatError('ENGINE_UNREACHABLE', `engine cannot be reached for ${describe(request)}: ${reason}`, {
    hint: hasErrno(error, 'EACCES', 'EPERM')
      ? 'The agent may not open the Docker socket; run it as a user that may, or add the socket’s group with group_add.'
      : 'Mount /var/run/docker.sock into the agent, or set DOCKER_HOST to the engine or its proxy.',
    cause: error,
  });
}

/** A request as messages name it. */
export function describe(request: EngineRequest): string {
  // Ids are 64 characters long; twelve are what people see elsewhere.
  return `${request.method} ${request.path.replace(/([0-9a-f]{12})[0-9a-f]{52}/g, '$1')}`;
}

/** HTTP status of an ENGINE_REFUSED error. */
export function statusOf(error: unknown): number | undefined {
  if (!hasCode(error, 'ENGINE_REFUSED')) return undefined;
  const cause = error.cause;
  return cause instanceof Error && 'statusCode' in cause && typeof cause.statusCode === 'number'
    ? cause.statusCode
    : undefined;
}

/** True when the engine said that the container, image or exec does not exist. */
export function isNotFound(error: unknown): boolean {
  return statusOf(error) === 404;
}

/** True for a refusal of a request of this kind, as a proxy of the Docker socket answers one that it does not let through. */
export function isForbidden(error: unknown): boolean {
  return [401, 403, 405].includes(statusOf(error) ?? 0);
}
