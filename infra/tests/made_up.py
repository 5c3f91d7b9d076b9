"""What AWS would make up (ARNs, URLs, ids), the same for template.yaml and ../terraform."""

STACK, REGION, ACCOUNT = "spanhook", "eu-west-1", "123456789012"


def arn(service, rest, region=REGION):
    return f"arn:aws:{service}:{region}:{ACCOUNT}:{rest}"


def listed(it):
    return it if isinstance(it, list) else [it]


class Read(dict):
    """Remembers which keys were asked for, so that none is left out of the comparison unseen."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self else default

    def __contains__(self, key):
        self.read.add(key)
        return super().__contains__(key)

    def unread(self):
        """What was not asked for, also inside of what was. Without a key asked for it was taken whole."""
        found = self.keys() - self.read
        for key, it in self.items():
            for inner in listed(it):
                if isinstance(inner, Read) and inner.read:
                    found |= {f"{key}.{name}" for name in inner.unread()}
        return found


API = "api0123456"


def queue_url(name):
    return f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{name}"


def function_arn(name):
    return arn("lambda", f"function:{name}")


def log_arn(name):
    return arn("logs", f"log-group:{name}")


def role_arn(path, function):
    return arn("iam", f"role{path}{function}", region="")


def function_url(function):
    return f"https://{function.split(':')[-1]}.lambda-url.{REGION}.on.aws/"


def integration(function):
    return f"integration-{function.split(':')[-1]}"


def group(description):
    return f"sg-{description}"
