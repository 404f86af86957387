/** The part of a container that says what it depends on. */
interface Dependent {
  project: string;
  service: string;
  labels: Readonly<Record<string, string>>;
}

/** The label in which Compose records `depends_on`: `db:service_healthy:false,redis:service_started:false`. */
const DEPENDS_ON = 'com.docker.compose.depends_on';

/** Returns the services that the `depends_on` of a container names. */
export function dependencies({ labels }: Pick<Dependent, 'labels'>): string[] {
  return (labels[DEPENDS_ON] ?? '').split(',').flatMap((entry) => entry.split(':')[0] || []);
}

/** Returns the services of its project that a container depends on, directly or through other services. Sorted. */
export function allDependencies(container: Dependent, containers: readonly Dependent[]): string[] {
  const found = new Set(dependencies(container));
  // A set is visited in the order of insertion, so this goes on with what it adds.
  for (const service of found) {
    const its = containers.filter((one) => one.project === container.project && one.service === service);
    for (const more of its.flatMap(dependencies)) found.add(more);
  }
  found.delete(container.service);
  return [...found].sort();
}
