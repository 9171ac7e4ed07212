//! One sentence in many languages and scripts: it tells what a vocabulary is worth where a corpus does not.

/// What each is in, and the sentence.
pub(super) const SAMPLES: [(&str, &str); 16] = [
    (
        "English",
        "Please close the window in the kitchen before it rains tonight.",
    ),
    (
        "German",
        "Bitte schließe das Fenster in der Küche, bevor es heute Abend regnet.",
    ),
    (
        "French",
        "Ferme la fenêtre de la cuisine avant qu’il ne pleuve ce soir.",
    ),
    (
        "Spanish",
        "Cierra la ventana de la cocina antes de que llueva esta noche.",
    ),
    (
        "Polish",
        "Zamknij okno w kuchni, zanim wieczorem zacznie padać deszcz.",
    ),
    (
        "Turkish",
        "Bu akşam yağmur yağmadan önce mutfaktaki pencereyi kapat.",
    ),
    (
        "Vietnamese",
        "Hãy đóng cửa sổ nhà bếp trước khi trời mưa tối nay.",
    ),
    (
        "Greek",
        "Κλείσε το παράθυρο της κουζίνας πριν βρέξει απόψε.",
    ),
    (
        "Russian",
        "Закрой окно на кухне, пока вечером не пошёл дождь.",
    ),
    ("Arabic", "أغلق نافذة المطبخ قبل أن تمطر الليلة."),
    ("Hindi", "आज रात बारिश होने से पहले रसोई की खिड़की बंद कर दो।"),
    ("Thai", "ช่วยปิดหน้าต่างห้องครัวก่อนที่ฝนจะตกคืนนี้"),
    ("Chinese", "请在今晚下雨之前把厨房的窗户关上。"),
    ("Japanese", "今夜雨が降る前に台所の窓を閉めてください。"),
    ("Korean", "오늘 밤 비가 오기 전에 부엌 창문을 닫아 주세요."),
    (
        "code",
        "if rain_expected(hours=6):\n    window[\"kitchen\"].close()  # 0 = shut\n",
    ),
];
