import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LifeboatError } from '../base/errors.ts';

/** Returns dockerode's connection options for a `DOCKER_HOST`. Without one, dockerode's defaults apply. */
export function connectionOptions(dockerHost: string | undefined, env: NodeJS.ProcessEnv): Record<string, unknown> {
  if (!dockerHost) return {};
  // Set explicitly, because dockerode reads missing options from the environment itself.
  const none = { host: undefined, port: undefined, socketPath: undefined, timeout: undefined };
  if (dockerHost.startsWith('unix://')) return { ...none, socketPath: dockerHost.slice('unix://'.length) };
  const url = URL.parse(dockerHost.includes('://') ? dockerHost : `tcp://${dockerHost}`);
  if (!url?.hostname || !['tcp:', 'http:', 'https:'].includes(url.protocol)) {
    throw new LifeboatError('ENGINE_UNREACHABLE', `DOCKER_HOST is not an address that can be used: ${dockerHost}`, {
      hint: 'Use unix:///var/run/docker.sock or tcp://host:2375.',
    });
  }
  const tls = url.protocol === 'https:' || url.port === '2376' || Boolean(env.DOCKER_TLS_VERIFY);
  const options = {
    ...none,
    host: url.hostname,
    port: url.port || (tls ? '2376' : '2375'),
    protocol: tls ? 'https' : 'http',
  };
  return tls && env.DOCKER_CERT_PATH ? { ...options, ...certificates(env.DOCKER_CERT_PATH) } : options;
}

function certificates(directory: string): Record<string, Buffer> {
  const read = (name: string) => readFileSync(join(directory, name));
  try {
    return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') };
  } catch (cause) {
    throw new LifeboatError('ENGINE_UNREACHABLE', `the certificates in DOCKER_CERT_PATH cannot be read: ${directory}`, {
      hint: 'Mount a directory with ca.pem, cert.pem and key.pem that Lifeboat may read.',
      cause,
    });
  }
}
