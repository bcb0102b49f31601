"""One table of the words that modalities write for views and body regions, in their languages, without their spellings.

A word that is not here says nothing. Words are upper case without accents; what several languages share stands once.
"""

import re
import unicodedata

_VIEWS = {
    "AP": "AP 前后位 前後位",
    "PA": "PA 后前位 後前位",
    # an image at the bedside or lying, which is taken antero-posterior unless another word says otherwise
    "BEDSIDE": """
        PORTABLE PORT PORTABEL PORTATIL PORTATILE PORTATIF MOBILE MOBIL MOBIEL BEDSIDE BED BETT BETTAUFNAHME BETTTHORAX
        BEDTHORAX BEDOPNAME LIEGEND LIEGENDAUFNAHME LIGGEND LIT COUCHE LETTO LEITO CAMA RECUMBENT
        ポータブル 포터블 床旁 床边 床邊
        """,
    "SUPINE": "SUPINE SUPIN SUPINO SUPINA RUCKENLAGE RUECKENLAGE RUGLIGGING 仰卧 仰臥 앙와위",
    "FRONTAL": "FRONTAL FRONTALE FRONTALES FACE FRENTE ПРЯМАЯ ПРЯМОЙ 正面 正位 正侧位 正側位 정면",
    # with OBLIQUE or DECUBITUS these words are part of another view's name
    "LATERAL": """
        LAT LATS LLAT RLAT LATL LATR LATD LATG LATERAL LATERALS LATERALE LATERALES LATERALER LATERALEN LATERALIS
        LATERAAL LATERALNA LATERALNE LATERALNI LATERALNY LATERALLY LATERO LATEROLATERAL LATEROLATERALE LLATERAL RLATERAL
        LTLAT RTLAT
        """,
    "PROFILE": """
        LL RL XTL XTLAT SAGITTAL PROFIL PROFILS PROFILO PERFIL PROFIEL SEITL SEITLICH SEITLICHE SEITLICHER
        SEITENAUFNAHME SEITENBILD SEITBILD DWARS DWARSE DWARSOPNAME ZIJDELINGS ZIJDELINGSE ZIJWAARTS SIDEBILDE SIDOBILD
        SIDEOPTAGELSE SIVUKUVA BOCZNA BOCZNE BOCZNY BOCNI BOCNA BOKOM OLDALIRANYU БОКОВАЯ БОКОВОЙ БОКОВОЕ ΠΛΑΓΙΑ ΠΛΑΓΙΟ
        側面 侧面 侧位 側位 측면
        """,
    "OBLIQUE": """
        OBL OBLIQUE OBLIQUES OBLIQ OBLIQUA OBLIQUO OBLIQUI OBLICUA OBLICUO OBLICUAS SCHRAG SCHRAEG SCHUIN SCHUINE SKOSNA
        SKRA КОСАЯ 斜位
        """,
    **{term: term for term in ("LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "LLD", "RLD")},
    "DECUBITUS": "DECUBITUS DECUB DECUBITO DECUBITE DECUBITI SEITENLAGE ZIJLIGGING 侧卧 側臥 側卧",
    "DORSAL": "DORSAL DORSALE DORSALIS VENTRAL VENTRALE",
    "LORDOTIC": "LORDOTIC LORDOSIS LORDOTIQUE LORDOTICA LORDOTICO LORDOTISCH LORDOTISCHE LINDBLOM APICOGRAM",
    "CROSSTABLE": "CROSSTABLE XTABLE",
    "AXIAL": "AXIAL AXIALE AXIAAL",
    "TANGENTIAL": "TANGENTIAL TANGENTIALE TANGENTIEL TANGENCIAL",
}
SPECIAL_VIEWS = (
    *("LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "OBLIQUE", "LLD", "RLD", "DECUBITUS", "LORDOTIC", "AXIAL"),
    *("TANGENTIAL", "CROSSTABLE"),
)
"""Frontal or near it, but not a plain postero-anterior or antero-posterior view."""

_REGIONS = {
    # BRUST, ГРУДНОЙ and THORACIC are not here: they stand in names of the breast and of the thoracic spine too
    "CHEST": """
        CHEST CHESTS CXR THORAX THX THORAXES TORAX TORACE TORAKS TORAXU LUNG LUNGS LUNGE LUNGEN LUNGENSPITZEN BRUSTKORB
        POUMON POUMONS POITRINE PULMON PULMONES PECHO POLMONE POLMONI PULMAO PULMOES PULMO LONGEN BORSTKAS LUNGOR LUNGER
        KEUHKOT KEUHKO PLUCA PLICE HRUDNIK AKCIGER BABYGRAM ΘΩΡΑΚΑΣ ΘΩΡΑΚΑ ΘΩΡΑΚΟΣ ЛЕГКИЕ ЛЕГКИХ КЛЕТКА КЛЕТКИ ОГК
        胸部 胸片 肺 흉부
        """,
    "OTHER": """
        ABDOMEN ABDOMINAL ABD KUB PELVIS PELVIC PELV HIP HIPS KNEE KNEES ANKLE ANKLES FOOT FEET TOE TOES HEEL LEG LEGS
        TIBIA FIBULA FEMUR THIGH CALCANEUS PATELLA HAND HANDS WRIST WRISTS FINGER FINGERS THUMB ELBOW FOREARM HUMERUS
        SHOULDER SHOULDERS SCAPULA CLAVICLE CLAVICLES STERNUM RIB RIBS SKULL SINUS SINUSES ORBIT ORBITS MANDIBLE MAXILLA
        JAW TMJ TEETH TOOTH DENTAL ZYGOMA SPINE CSPINE TSPINE LSPINE SSPINE CTSPINE TLSPINE LSSPINE SACRUM COCCYX BREAST
        EXTREMITY EXTREMITIES LIMB LIMBS NECK HEADNECK
        BECKEN HUFTE HUEFTE KNIE SPRUNGGELENK FUSS VORFUSS ZEHE ZEHEN UNTERSCHENKEL OBERSCHENKEL HANDGELENK DAUMEN
        ELLENBOGEN ELLBOGEN UNTERARM OBERARM SCHULTER SCHULTERBLATT SCHLUSSELBEIN SCHLUESSELBEIN CLAVICULA KLAVIKULA
        SCHADEL SCHAEDEL NNH HWS BWS LWS WIRBELSAULE WIRBELSAEULE HALSWIRBELSAULE BRUSTWIRBELSAULE LENDENWIRBELSAULE
        RIPPE RIPPEN MAMMA BAUCH KREUZBEIN
        BASSIN HANCHE GENOU CHEVILLE PIED ORTEIL JAMBE CUISSE POIGNET DOIGT POUCE COUDE EPAULE CLAVICULE RACHIS
        COLONNE ABDOME ADDOME CADERA RODILLA TOBILLO DEDO MANO MUNECA CODO HOMBRO CRANEO COLUMNA PIERNA BRAZO ANTEBRAZO
        COSTILLAS CUELLO BACINO GINOCCHIO CAVIGLIA PIEDE GAMBA POLSO GOMITO SPALLA CRANIO RACHIDE FEMORE CLAVICOLA
        AVAMBRACCIO QUADRIL JOELHO TORNOZELO PUNHO COTOVELO OMBRO COLUNA COSTELAS PERNA BRACO ANTEBRACO
        PESCOCO BEKKEN HEUP ENKEL VOET ELLEBOOG SCHOUDER SLEUTELBEEN SCHEDEL WERVELKOLOM CWK TWK LWK RIBBEN
        BUIK KNE HOFT HOFTE SKULDER KNAE KOLANO MIEDNICA BRZUCH KREGOSLUP CZASZKA NADGARSTEK
        ПОЗВОНОЧНИК ПОЗВОНОЧНИКА КОЛЕНО КОЛЕННЫЙ ТАЗ ТАЗА ЧЕРЕП ЧЕРЕПА КИСТЬ КИСТИ СТОПЫ ПЛЕЧО ЖИВОТ БРЮШНАЯ БРЮШНОЙ
        腹部 骨盆 骨盤 膝 関節 关节 胸椎 腰椎 颈椎 頸椎 頭部 头颅 肩 복부 골반 무릎 척추 경추 요추 흉추
        """,
    # regions in Body Part Examined; in a sentence these words mean other things as well
    "OTHER BODY PART": """
        ARM HEAD FACE BACK EYE EAR NOSE NASAL CALF MAIN PIE BRAS SEIN TETE COTES COSTE MAO BEEN ASP
        HALS TEEN BARK ANCA COLLO CRANE POLS OMERO STOPA
        """,
    "PHANTOM": "PHANTOM PHANTOME FANTOM FANTOME FANTOMA",
}
_FILLING = """
    LEFT RIGHT LINKS RECHTS ADULT CHILD PEDS XRAY VIEW VIEWS AUFNAHME UBERSICHT UEBERSICHT GELENK RONTGEN ROENTGEN
    ERECT UPRIGHT WITH WHOLE
    """
_SHORT_IN_COMPOUNDS = {"PA", "AP", "LAT", "OBL", "ABD"}
_LONGEST_TEXT, _LONGEST_WORD = 1024, 40
_LETTERS_WITHOUT_ACCENT = str.maketrans({"Ł": "L", "Ø": "O", "Æ": "AE", "Œ": "OE"})


def normalised(text: str) -> str:
    """Return a text in upper case, without accents and underscores, each spelling of AP and PA as that one word."""
    decomposed = unicodedata.normalize("NFKD", text[:_LONGEST_TEXT].upper().translate(_LETTERS_WITHOUT_ACCENT))
    plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter)).replace("_", " ")
    plain = _UNSPACED.sub(r" \g<0> ", plain)
    for pattern, word in _PHRASES:
        plain = pattern.sub(f" {word} ", plain)
    return plain


_UNSPACED = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff]+")  # scripts without spaces between words
_BETWEEN = r"[\s./\\-]*"
_ANTERIOR, _POSTERIOR = r"ANT(?:ERO|ERIOR[A-Z]*|ERIEURE?)?", r"POST(?:ERO|ERIOR[A-Z]*|ERIEURE?)?"
_PHRASES = tuple(
    (re.compile(rf"\b(?:{pattern})(?![^\W\d_])"), word)
    for pattern, word in (
        (rf"A{_BETWEEN}P", "AP"),
        (rf"P{_BETWEEN}A", "PA"),
        (rf"{_ANTERIOR}{_BETWEEN}(?:TO\s+)?{_POSTERIOR}|VOOR{_BETWEEN}ACHTER[A-Z]*|VENTRO{_BETWEEN}DORSALE?", "AP"),
        (rf"{_POSTERIOR}{_BETWEEN}(?:TO\s+)?{_ANTERIOR}|ACHTER{_BETWEEN}VOOR[A-Z]*|DORSO{_BETWEEN}VENTRALE?", "PA"),
        (rf"(?:CROSS|X){_BETWEEN}TABLE", "CROSSTABLE"),
        (rf"PORT{_BETWEEN}(?:A{_BETWEEN})?CATH[A-Z]*", "CATHETER"),  # no word for a mobile unit
        # latero-laterale; L.L.D. is a decubitus, R.L.L. and L.L.L. are lobes
        (r"(?<!\b[A-Z][./-])L[./-]\s?L(?![./-]\s?[A-Z])", "LL"),
    )
)


def _table(groups: dict[str, str]) -> dict[str, str]:
    return {normalised(word).strip(): term for term, words in groups.items() for word in words.split()}


_VIEW_OF, _REGION_OF = _table(_VIEWS), _table(_REGIONS)
_KNOWN = {*_VIEW_OF, *_REGION_OF, *_FILLING.split()}
_PARTS = {word for word in _KNOWN if len(word) >= 4} | _SHORT_IN_COMPOUNDS
_UNSPACED_WORDS = sorted(word for word in _KNOWN if _UNSPACED.match(word))


def known_words(text: str) -> list[str]:
    """Return the words of the table in a text, in its order; compounds such as ``CHESTPA`` are taken apart."""
    plain = normalised(text)
    found = [part for word in re.findall(r"[^\W\d_]+", plain) for part in _known_parts(word)]
    if _UNSPACED.search(plain):
        found += [word for word in _UNSPACED_WORDS if word in plain]
    return found


def _known_parts(word: str) -> list[str]:
    if word in _KNOWN or not 5 <= len(word) <= _LONGEST_WORD:
        return [word] if word in _KNOWN else []
    parts_until: dict[int, list[str]] = {0: []}
    for start in range(len(word)):
        if start in parts_until:
            for end in range(start + 2, len(word) + 1):
                if word[start:end] in _PARTS:
                    parts_until.setdefault(end, [*parts_until[start], word[start:end]])
    return parts_until.get(len(word), [])


def region_words(text: str, *, is_body_part: bool = False) -> tuple[list[str], list[str]]:
    """Return the words of a text that name the chest, and those that name another region.

    Parameters
    ----------
    is_body_part
        Whether it is a value of Body Part Examined, in which some words are regions that elsewhere are none.
    """
    other = {"OTHER", "OTHER BODY PART"} if is_body_part else {"OTHER"}
    words = known_words(text)
    return (
        [word for word in words if _REGION_OF.get(word) == "CHEST"],
        [word for word in words if _REGION_OF.get(word) in other],
    )


def says_phantom(text: str) -> bool:
    """Whether a text says that the image is of a phantom."""
    return any(_REGION_OF.get(word) == "PHANTOM" for word in known_words(text))


def view_term(text: str) -> str | None:
    """Return the view that a text names.

    Returns
    -------
    str or None
        ``LATERAL``; one of `SPECIAL_VIEWS`; ``PA``; ``AP``; ``FRONTAL`` (one of the two); ``BEDSIDE`` (taken lying or
        with a mobile unit, without a word for its direction); None where it names none, or a lateral and a frontal one
        (``PA AND LAT`` describes a series of both), or both frontal ones.
    """
    found = {_VIEW_OF[word] for word in known_words(text) if word in _VIEW_OF}
    special = [term for term in SPECIAL_VIEWS if term in found]
    if "SUPINE" in found or ("DORSAL" in found and found & {"AP", "PA"}):  # lying on the back: decúbito supino
        special = [term for term in special if term != "DECUBITUS"]
    part_of_a_name = bool(special) and not found & {"DORSAL", "CROSSTABLE"}  # LATERAL DECUBITUS, LATERAL OBLIQUE
    frontal = [term for term in ("AP", "PA", "FRONTAL") if term in found]
    if "PROFILE" in found or ("LATERAL" in found and not part_of_a_name):
        return None if frontal else "LATERAL"
    if special:
        return special[0]
    if frontal:
        return None if {"AP", "PA"} <= found else frontal[0]
    return "BEDSIDE" if found & {"BEDSIDE", "SUPINE"} else None
