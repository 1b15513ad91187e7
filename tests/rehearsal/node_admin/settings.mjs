// What the service is given, read once: one line for each wrong setting, then the end with code 78.

const EXIT_WRONG_SETTINGS = 78;
const CIDR = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\/(\d|[12]\d|3[0-2])$/;

export function read(environment) {
  const problems = [];
  const check = (name, isRight, expected) => {
    const value = environment[name] ?? "";
    if (!isRight(value)) problems.push(`  ${name}: ${value === "" ? "is missing" : expected}`);
    return value;
  };
  const settings = {
    service: "admin",
    host: environment.HOST || "127.0.0.1",
    port: Number(check("PORT", (value) => /^\d+$/.test(value) && +value >= 1 && +value <= 65535, "must be a port")),
    prefix: check("PATH_PREFIX", (value) => value === "" || /^\/.*[^/]$/.test(value), "must be empty or like /admin"),
    digest: environment.IMAGE_DIGEST || "none",
    vpc: environment.VPC_CIDR ? check("VPC_CIDR", (value) => CIDR.test(value), "must be a network like 10.0.0.0/16") : "",
    authUrl: check("AUTH_INTERNAL_URL", URL.canParse, "must be an http(s) URL"),
    publicAuthUrl: environment.NEXT_PUBLIC_AUTH_URL || "/auth",
  };
  if (problems.length > 0) {
    console.error(`cannot start ${settings.service}: wrong settings\n${problems.join("\n")}`);
    process.exit(EXIT_WRONG_SETTINGS);
  }
  return settings;
}
